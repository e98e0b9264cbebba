"""An application's Celery, as ``celery -A tests.integration.celery_app`` finds it."""

from __future__ import annotations

import os

from celery import Celery

from postroom import Outbox
from postroom.integrations.celery import setup

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
    # Whatever an application likes: the task has options of its own.
    task_acks_late=True,
    task_time_limit=1,
)

outbox = Outbox.from_env()
setup(
    app,
    outbox,
    budget_s=float(os.environ.get("SHOP_BUDGET_S", "10")),
    sweep_s=float(os.environ.get("SHOP_SWEEP_S", "3600")),
)
