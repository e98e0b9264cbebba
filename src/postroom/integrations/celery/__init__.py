"""Celery: its workers deliver, beat sweeps for due mail, and the broker carries wakeups.

The database decides which worker sends what. Messages that the broker loses, repeats or delays cost
time at most.
"""

from __future__ import annotations

from typing import Any

from postroom.integrations.celery.drainer import OutboxDrainer
from postroom.integrations.celery.notifier import BackgroundNotifier, TaskPublisher
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

#: A drain may exceed its budget by the shutdown grace, and Celery's limits must not cut that short.
_BEYOND_BUDGET_S = 90.0


def setup(
    app: Celery,
    outbox: Outbox,
    *,
    queue: str | None = None,
    budget_s: float = 10.0,
    sweep_s: float = 10.0,
    wakeups: bool = True,
) -> Any:
    """Let Celery's workers deliver what is in ``outbox``; return the task ``postroom.deliver``.

    Call it where the Celery application is created, in every process that enqueues, works or runs
    beat. The task delivers what is due, and calls itself again if its time was not enough.

    Args:
        app: The Celery application.
        outbox: The outbox to deliver from.
        queue: Celery's queue for the task. Default: Celery's default queue.
        budget_s: The most seconds that one task delivers for. Default: 10.
        sweep_s: Seconds between two calls by beat, which is also how late a retry may be. Default:
            10.
        wakeups: Send one message, without content, after each commit that enqueued something.
            Without them, mail waits for the next sweep. Default: True.
    """
    drainer = OutboxDrainer(outbox, budget_s)

    @app.task(**_options(budget_s))  # type: ignore[untyped-decorator]
    def deliver() -> None:
        """Deliver what is due in the outbox."""
        if not drainer.drain():
            notifier.notify()

    options = {} if queue is None else {"queue": queue}
    notifier = BackgroundNotifier(lambda: TaskPublisher(app, deliver, options).send)
    if wakeups:
        outbox.add_wakeup(notifier.notify)
    app.add_periodic_task(sweep_s, app.signature(TASK), name=TASK, **options)
    _stop_with_celery(drainer, outbox)
    return deliver


def _options(budget_s: float) -> dict[str, Any]:
    """Return the task's own options, which override the application's defaults."""
    return {
        "name": TASK,
        # Registered with this application only, not with others in the process.
        "shared": False,
        "ignore_result": True,
        # A message that is lost with its worker does not matter: beat sends another.
        "acks_late": False,
        # A limit below the budget would kill workers while they send.
        "soft_time_limit": budget_s + _BEYOND_BUDGET_S,
        "time_limit": budget_s + _BEYOND_BUDGET_S + 10.0,
        "max_retries": 0,
    }


def _stop_with_celery(drainer: OutboxDrainer, outbox: Outbox) -> None:
    """Stop draining when Celery stops, and close relay connections when a process of it ends."""

    def stop(**_: object) -> None:
        drainer.stop()

    def close(**_: object) -> None:
        outbox.close()

    signals.worker_shutting_down.connect(stop, weak=False)
    signals.worker_shutdown.connect(close, weak=False)
    signals.worker_process_shutdown.connect(close, weak=False)
