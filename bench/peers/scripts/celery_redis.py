"""Celery: a task a mail, delivered by two worker processes, results kept in Redis."""

import os
import subprocess
import sys
import time

import order

asked = order.read()
os.environ |= {"BENCH_REDIS": asked.redis, "BENCH_PORT": str(asked.port)}

import redis  # noqa: E402
from celery_tasks import app, send  # noqa: E402

server = redis.Redis.from_url(asked.redis)
server.flushall()


def results():
    """Return how many results are stored; the few other keys of a broker do not matter."""
    return sum(1 for _ in server.scan_iter("celery-task-meta-*", count=10_000))


watch = order.Watch()
with app.producer_pool.acquire() as producer:
    for mail in asked.mails():
        send.apply_async(
            (mail.sender, mail.to, mail.subject, mail.text, mail.html), producer=producer
        )
enqueue_s = watch.lap_s()
worker = subprocess.Popen(
    [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency=2",
     "--pool=prefork", "--loglevel=ERROR", "--without-gossip", "--without-mingle",
     "--without-heartbeat"],
    stdout=subprocess.DEVNULL,
)  # fmt: skip
try:
    # Its start is not what we measure: the clock runs from the first result.
    while (first := results()) == 0:
        time.sleep(0.01)
    watch.lap_s()
    while server.dbsize() < asked.count or results() < asked.count:
        time.sleep(0.05)
    deliver_s = watch.lap_s() * asked.count / (asked.count - first)
finally:
    worker.terminate()
    worker.wait()
order.tell(enqueue_s=enqueue_s, deliver_s=deliver_s, recorded=results())
