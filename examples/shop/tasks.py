"""Celery as the engine: its workers deliver the mail and book the uploads."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from flask import Flask
from kombu.exceptions import OperationalError

from examples.shop.background import LOOK_EVERY_S, add_wakeup
from examples.shop.booking import book_waiting
from examples.shop.mail import postroom
from postroom.integrations.celery import setup

log = logging.getLogger(__name__)


def celery_of(app: Flask) -> Celery:
    """Return the Celery application that works for ``app``, whose hints go to it."""
    celery = Celery("shop", broker=app.config["CELERY_BROKER_URL"])
    with app.app_context():
        setup(celery, postroom.outbox)

    @celery.task(name="shop.book", shared=False, ignore_result=True)
    def book() -> None:
        with app.app_context():
            book_waiting()

    celery.add_periodic_task(LOOK_EVERY_S, celery.signature("shop.book"), name="shop.book")
    add_wakeup(app, lambda: _call(book))
    return celery


def _call(task: Any) -> None:
    try:
        task.apply_async(retry=False)
    except OperationalError as error:  # beat calls it in any case
        log.warning("the broker takes no hints: %s", error)
