"""For each recipient: build the message, connect, send, close."""

import smtplib

import order

asked = order.read()
watch = order.Watch()
for mail in asked.mails():
    with smtplib.SMTP("127.0.0.1", asked.port) as server:
        server.send_message(mail.built())
order.tell(deliver_s=watch.lap_s())
