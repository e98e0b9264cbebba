"""The task that a team writes, with the connection kept for the life of its process."""

import os
import smtplib

import order
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    worker_prefetch_multiplier=64,
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)
_kept = []


@app.task
def send(sender, to, subject, text, html):
    if not _kept:
        _kept.append(smtplib.SMTP("127.0.0.1", int(os.environ["BENCH_PORT"])))
    _kept[0].send_message(order.Mail(sender, to, subject, text, html).built())
