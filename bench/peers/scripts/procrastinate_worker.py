"""Procrastinate: a job a mail in PostgreSQL, delivered by one worker."""

import asyncio
import smtplib
import threading

import order
import procrastinate

asked = order.read()
database = asked.postgresql
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        kwargs={
            "host": database["host"],
            "port": database["port"],
            "user": database["user"],
            "password": database["password"],
            "dbname": database["name"],
        },
        max_size=10,
    )
)
kept = threading.local()


@app.task(name="send")
def send(sender, to, subject, text, html):
    if not hasattr(kept, "connection"):
        kept.connection = smtplib.SMTP("127.0.0.1", asked.port)
    kept.connection.send_message(order.Mail(sender, to, subject, text, html).built())


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        watch = order.Watch()
        await send.batch_defer_async(*(vars(mail) for mail in asked.mails()))
        enqueue_s = watch.lap_s()
        await app.run_worker_async(wait=False, concurrency=10, listen_notify=False)
        deliver_s = watch.lap_s()
        jobs = await app.job_manager.list_jobs_async(status="succeeded")
        order.tell(enqueue_s=enqueue_s, deliver_s=deliver_s, recorded=len(list(jobs)))


asyncio.run(main())
