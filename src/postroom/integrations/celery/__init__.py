"""Celery as the engine: its workers deliver, beat sweeps, its broker carries hints.

The database decides who sends what. Whatever the broker loses, repeats or delays costs time at
the most.
"""

from __future__ import annotations

from typing import Any

from postroom.integrations.celery.drainer import OutboxDrainer, TaskPublisher
from postroom.integrations.celery.notifier import BackgroundNotifier
from postroom.outbox import Outbox

try:
    from celery import Celery, signals  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    if error.name != "celery":
        raise
    raise ModuleNotFoundError(
        "postroom.integrations.celery needs its extra: pip install 'postroom[celery]'",
        name="celery",
    ) from None

__all__ = ["TASK", "setup"]

#: The task's name, for routes and schedules.
TASK = "postroom.deliver"

#: Beyond the budget a drain may take its grace, and Celery's limits must not cut that short.
_BEYOND_BUDGET_S = 90.0


def setup(
    app: Celery,
    outbox: Outbox,
    *,
    queue: str | None = None,
    budget_s: float = 10.0,
    sweep_s: float = 10.0,
    hints: bool = True,
) -> Any:
    """Let Celery's workers deliver what is in ``outbox``; return the task ``postroom.deliver``.

    Call it where the application is made, in whatever enqueues, works or runs beat. The task
    drains what is due, for ``budget_s`` seconds at the most, and calls itself again where
    more is left. Beat calls it every ``sweep_s`` seconds; that is also how late a retry may be.
    With ``hints`` each commit that enqueued something sends one message without content.
    ``queue`` is Celery's where the task should have one of its own.
    """
    shift = OutboxDrainer(outbox, budget_s)

    @app.task(**_options(budget_s))  # type: ignore[untyped-decorator]
    def deliver() -> None:
        """Deliver what is due in the outbox."""
        if not shift.drain():
            notifier.notify()

    options = {} if queue is None else {"queue": queue}
    notifier = BackgroundNotifier(lambda: TaskPublisher(app, deliver, options).send)
    if hints:
        outbox.add_wakeup(notifier.notify)
    app.add_periodic_task(sweep_s, app.signature(TASK), name=TASK, **options)
    _end_in_order(shift, outbox)
    return deliver


def _options(budget_s: float) -> dict[str, Any]:
    """Return the task's own options, which hold whatever the application's defaults are."""
    return {
        "name": TASK,
        # Of this application, and no other in the process.
        "shared": False,
        "ignore_result": True,
        # A message that a dead worker had is not missed.
        "acks_late": False,
        # A limit below the budget would kill workers in the midst of sending.
        "soft_time_limit": budget_s + _BEYOND_BUDGET_S,
        "time_limit": budget_s + _BEYOND_BUDGET_S + 10.0,
        "max_retries": 0,
    }


def _end_in_order(shift: OutboxDrainer, outbox: Outbox) -> None:
    """Stop soon when Celery stops, and take leave of relays when a process of it ends."""

    def stop(**_: object) -> None:
        shift.stop()

    def close(**_: object) -> None:
        outbox.close()

    signals.worker_shutting_down.connect(stop, weak=False)
    signals.worker_shutdown.connect(close, weak=False)
    signals.worker_process_shutdown.connect(close, weak=False)
