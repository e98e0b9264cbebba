"""Replies of a relay, and what they mean for a recipient.

An expected reply is a value, never an exception. Whose fault a refusal is comes from the
table in ``fault_rules``; the fault and the code decide the recipient's state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

from postroom.smtp.fault_rules import match_rule
from postroom.states import Fault, Phase, RecipientState

# The codes that the client acts on (RFC 5321 section 4.2.3; RFC 4954 sections 4 and 6). Plain
# numbers, because every reply is compared with one of them.
SERVICE_READY = 220
AUTH_SUCCEEDED = 235
OK = 250
AUTH_CHALLENGE = 334
START_MAIL_INPUT = 354
SERVICE_CLOSING = 421
INSUFFICIENT_STORAGE = 452
EXCEEDED_STORAGE = 552

#: The enhanced status code at the start of the text: class, subject, detail (RFC 2034 section 4).
_ENHANCED = re.compile(r"\A([245]\.\d{1,3}\.\d{1,3})(?!\S)\s*")

_COUNTED_FAULTS = frozenset({Fault.RECIPIENT, Fault.MESSAGE})
# Python 3.11 runs a function for each look-up of a member, and this is looked up for each mail.
_ACCEPTED = RecipientState.ACCEPTED

_MINUTE_S = 60.0
_HOUR_S = 3600.0

#: No relay means less than a second or more than a day by "try again".
_MIN_DELAY_S = 1.0
_MAX_DELAY_S = 24 * _HOUR_S

_UNITS_S = {"s": 1.0, "m": _MINUTE_S, "h": _HOUR_S, "d": 24 * _HOUR_S}
_CUE = r"\b(?:try|retry|again|wait|back|gr[ea]y[- ]?list\w*|defer\w*|throttl\w*|delay\w*)\b"
_CLOCK = re.compile(_CUE + r"[^.;]{0,60}?\b(\d{1,2}):(\d{2})(?::(\d{2}))?\b(?!:)", re.IGNORECASE)
_AMOUNT = re.compile(
    _CUE + r"[^.;]{0,60}?\b(\d{1,6})\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply of a relay (RFC 5321 section 4.2).

    Attributes:
        code: The three digits; 0 if the text is ours and not a relay's, such as for a broken
            connection or a local refusal.
        lines: The text of each line, without the code; at least one.
        enhanced: The enhanced status code such as ``5.1.1`` (RFC 3463); None if there is none.
        one_line: The whole reply in one line, as it is shown and stored.
    """

    code: int
    lines: tuple[str, ...] = ("",)
    enhanced: str | None = field(init=False, repr=False, compare=False)
    one_line: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Parse the text once: relays repeat their replies, and the parser caches them."""
        found = _ENHANCED.match(self.lines[0])
        object.__setattr__(self, "enhanced", found[1] if found else None)
        object.__setattr__(self, "one_line", self._in_one_line())

    @property
    def is_positive(self) -> bool:
        """Return whether the code is 2xx."""
        return 200 <= self.code < 300

    @property
    def text(self) -> str:
        """Return the text in one line, without the code and the enhanced status code."""
        return " ".join(_ENHANCED.sub("", line, count=1).strip() for line in self.lines).strip()

    def __str__(self) -> str:
        return self.one_line

    def _in_one_line(self) -> str:
        if self.code and len(self.lines) == 1:
            return f"{self.code} {self.lines[0]}".rstrip()
        code = str(self.code) if self.code else None
        return " ".join(part for part in (code, self.enhanced, self.text) if part)


class RelayFailure(Protocol):
    """The part of a ``RelayError`` that decides an outcome.

    Attributes:
        fault: Whose fault it is if no reply says otherwise.
        in_doubt: The final dot was written and its reply did not arrive.
        phase: Where it failed.
        reply: What the relay said before it failed, if anything.
    """

    fault: Fault
    in_doubt: bool
    phase: Phase | None
    reply: Reply | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one attempt for one recipient.

    Attributes:
        state: ACCEPTED, DEFERRED, REJECTED or IN_DOUBT.
        fault: Whose fault it is; None if the recipient was accepted, or if it is nobody's.
        retry_after_s: The delay in seconds that the reply asked for; 0 if the recipient may be
            retried immediately; None if the retry schedule decides.
        reply: What the relay said, or what Postroom says in its place (code 0).
        phase: Where the outcome was decided.
    """

    state: RecipientState
    fault: Fault | None = None
    retry_after_s: float | None = None
    reply: Reply | None = None
    phase: Phase | None = None

    @property
    def retry_immediately(self) -> bool:
        """Return whether the recipient may be sent in another transaction at once."""
        return self.state is RecipientState.DEFERRED and self.retry_after_s == 0

    @property
    def counts_as_try(self) -> bool:
        """Return whether this counts against the retry schedule.

        Only faults of the recipient or the message do.
        """
        return self.state is RecipientState.DEFERRED and self.fault in _COUNTED_FAULTS


def classify(phase: Phase, reply: Reply) -> Outcome:
    """Return what ``reply`` means for the recipient it was given for.

    Only a 2xx accepts. A 5xx rejects if it is the recipient's or the message's fault; every other
    refusal defers.

    Args:
        phase: The command that was answered.
        reply: The answer.
    """
    if reply.is_positive:
        return Outcome(state=_ACCEPTED, reply=reply, phase=phase)
    rule = match_rule(phase, reply.code, reply.enhanced, reply.text)
    is_transient = reply.code < 500 or rule.is_transient or rule.fault not in _COUNTED_FAULTS
    return Outcome(
        state=RecipientState.DEFERRED if is_transient else RecipientState.REJECTED,
        fault=rule.fault,
        retry_after_s=requested_delay_s(reply.text) if is_transient else None,
        reply=reply,
        phase=phase,
    )


def is_out_of_step(phase: Phase, reply: Reply) -> bool:
    """Return whether ``reply`` refuses the order of the commands, not an address or the content.

    The connection is of no further use then, and the fault is the relay's.

    Args:
        phase: The command that was answered.
        reply: The answer.
    """
    if reply.code < 400:
        return False
    return match_rule(phase, reply.code, reply.enhanced, reply.text).is_out_of_step


def classify_error(error: RelayFailure) -> Outcome:
    """Return what a broken connection means for the recipients of its transaction.

    In doubt if the final dot was written. Otherwise what the relay's refusal says, if it gave one
    before it hung up, or a deferral.

    Args:
        error: The failure.
    """
    reply = error.reply or Reply(code=0, lines=(str(error),))
    if error.in_doubt:
        return Outcome(
            state=RecipientState.IN_DOUBT, fault=error.fault, reply=reply, phase=error.phase
        )
    if error.reply is not None and error.phase is not None:
        return classify(error.phase, error.reply)
    return Outcome(state=RecipientState.DEFERRED, fault=error.fault, reply=reply, phase=error.phase)


def requested_delay_s(text: str) -> float | None:
    """Return the delay that a reply's text asks for, such as "try again in 300 seconds".

    Args:
        text: The text of the reply, in one line.

    Returns:
        Seconds, from 1 second to a day; None if the text names no delay.
    """
    if clock := _CLOCK.search(text):
        return _bounded(_clock_s(clock))
    if amount := _AMOUNT.search(text):
        return _bounded(int(amount[1]) * _UNITS_S[amount[2][0].lower()])
    return None


def _clock_s(found: re.Match[str]) -> float:
    first, second, third = found[1], found[2], found[3]
    if third is None:  # minutes and seconds
        return int(first) * _MINUTE_S + int(second)
    return int(first) * _HOUR_S + int(second) * _MINUTE_S + int(third)


def _bounded(delay_s: float) -> float:
    return min(max(delay_s, _MIN_DELAY_S), _MAX_DELAY_S)
