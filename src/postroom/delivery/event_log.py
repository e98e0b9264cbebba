"""What the log says of each outcome: one line, with the same fields everywhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from postroom.duration import human_duration
from postroom.log import Log
from postroom.states import RecipientState
from postroom.storage.queue.records import OutcomeRecord

log = Log("postroom.delivery")

_LEVELS = {
    RecipientState.ACCEPTED: logging.INFO,
    RecipientState.DEFERRED: logging.WARNING,
    RecipientState.SUPPRESSED: logging.INFO,
    RecipientState.EXPIRED: logging.WARNING,
    RecipientState.REJECTED: logging.ERROR,
    RecipientState.IN_DOUBT: logging.ERROR,
}


def log_outcomes(results: Iterable[OutcomeRecord]) -> None:
    """Log committed results under ``postroom.delivery``, with the fields of :func:`fields`."""
    if not log.isEnabledFor(logging.ERROR):
        return
    # Asked once a commit, and not for each mail.
    wanted = {level for level in set(_LEVELS.values()) if log.isEnabledFor(level)}
    for result in results:
        level = _LEVELS.get(result.state, logging.INFO)
        if level in wanted:
            log.log(level, "%s", _sentence(result), extra=log_fields(result))


def log_fields(result: OutcomeRecord) -> dict[str, object]:
    """Return the structured fields of a result's log record."""
    return {
        "message_id": result.claim.message_id,
        "recipient": result.claim.address,
        "relay": result.relay,
        "state": result.state.value,
        "phase": result.phase and result.phase.value,
        "code": result.reply_code,
        "enhanced_status": result.enhanced_status,
        "reply": result.reply,
        "fault": result.fault and result.fault.value,
        "duration_s": result.duration_s and round(result.duration_s, 4),
        "retry_in_s": result.due_in_s and round(result.due_in_s, 1),
    }


def _sentence(result: OutcomeRecord) -> str:
    again = "" if result.due_in_s is None else f", again in {human_duration(result.due_in_s)}"
    because = f": {result.reply}" if result.reply else ""
    return f"{result.state.value} {result.claim.address}{again}{because}"
