"""One connection for all mails."""

import smtplib

import order

asked = order.read()
watch = order.Watch()
with smtplib.SMTP("127.0.0.1", asked.port) as server:
    for mail in asked.mails():
        server.send_message(mail.built())
order.tell(deliver_s=watch.lap_s())
