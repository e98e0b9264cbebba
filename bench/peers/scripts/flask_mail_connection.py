"""Flask-Mail's way of sending bulk mail: one connection, opened by ``mail.connect()``."""

import order
from flask import Flask
from flask_mail import Mail, Message

asked = order.read()
app = Flask(__name__)
app.config.update(MAIL_SERVER="127.0.0.1", MAIL_PORT=asked.port, MAIL_MAX_EMAILS=None)
mail = Mail(app)

watch = order.Watch()
with app.app_context(), mail.connect() as connection:
    for each in asked.mails():
        connection.send(
            Message(
                each.subject,
                sender=each.sender,
                recipients=[each.to],
                body=each.text,
                html=each.html,
            )
        )
order.tell(deliver_s=watch.lap_s())
