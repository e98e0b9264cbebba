"""What a relay answered, and what follows for the recipient.

An expected answer is a value, never an exception. Whom it blames is read from the table in
``blame``; that and the code decide the state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

from postroom.smtp.fault_rules import match_rule
from postroom.states import Fault, Phase, RecipientState

_MINUTE_S = 60.0
_HOUR_S = 3600.0

#: Nobody means less than a second or more than a day by "try again".
_SHORTEST_HINT_S = 1.0
_LONGEST_HINT_S = 24 * _HOUR_S

_UNITS_S = {"s": 1.0, "m": _MINUTE_S, "h": _HOUR_S, "d": 24 * _HOUR_S}
_CUE = r"\b(?:try|retry|again|wait|back|gr[ea]y[- ]?list\w*|defer\w*|throttl\w*|delay\w*)\b"
_CLOCK = re.compile(_CUE + r"[^.;]{0,60}?\b(\d{1,2}):(\d{2})(?::(\d{2}))?\b(?!:)", re.IGNORECASE)
_AMOUNT = re.compile(
    _CUE + r"[^.;]{0,60}?\b(\d{1,6})\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?)\b",
    re.IGNORECASE,
)


def requested_delay_s(text: str) -> float | None:
    """Return the delay that a reply's text asks for, such as "try again in 300 seconds".

    From 1 second to a day; None where it names none.
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
    return min(max(delay_s, _SHORTEST_HINT_S), _LONGEST_HINT_S)


#: RFC 2034 section 4: class, subject, detail at the start of the text.
_ENHANCED = re.compile(r"\A([245]\.\d{1,3}\.\d{1,3})(?!\S)\s*")

_COUNTED_FAULTS = frozenset({Fault.RECIPIENT, Fault.MESSAGE})
# Python 3.11 runs a function for each look-up of a member, and this is looked up for each mail.
_ACCEPTED = RecipientState.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply: its code, and the text of its lines (RFC 5321 section 4.2).

    Code 0 marks words of ours where no relay has spoken: a broken connection, a local refusal.
    """

    code: int
    lines: tuple[str, ...] = ("",)
    #: The enhanced code such as ``5.1.1`` (RFC 3463), if one was given.
    enhanced: str | None = field(init=False, repr=False, compare=False)
    #: The reply in one line, as it is shown and stored.
    one_line: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read it once; relays repeat themselves, and replies are kept."""
        found = _ENHANCED.match(self.lines[0])
        object.__setattr__(self, "enhanced", found[1] if found else None)
        object.__setattr__(self, "one_line", self._in_one_line())

    @property
    def is_positive(self) -> bool:
        """Return whether this is a 2xx."""
        return 200 <= self.code < 300

    @property
    def text(self) -> str:
        """Return what was said in one line, without the enhanced code."""
        return " ".join(_ENHANCED.sub("", line, count=1).strip() for line in self.lines).strip()

    def __str__(self) -> str:
        return self.one_line

    def _in_one_line(self) -> str:
        if self.code and len(self.lines) == 1:
            return f"{self.code} {self.lines[0]}".rstrip()
        code = str(self.code) if self.code else None
        return " ".join(part for part in (code, self.enhanced, self.text) if part)


class RelayFailure(Protocol):
    """A ``RelayError``, as far as its outcome depends on it; errors build on this module."""

    fault: Fault
    in_doubt: bool
    phase: Phase | None
    reply: Reply | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one attempt came to, for one recipient.

    ``state`` is ACCEPTED, DEFERRED, REJECTED or IN_DOUBT. ``retry_after_s`` is the delay a reply
    asked for, or 0 where nothing stands against trying again at once.
    """

    state: RecipientState
    fault: Fault | None = None
    retry_after_s: float | None = None
    reply: Reply | None = None
    phase: Phase | None = None

    @property
    def retry_immediately(self) -> bool:
        """Return whether the recipient may be tried again at once, in another transaction."""
        return self.state is RecipientState.DEFERRED and self.retry_after_s == 0

    @property
    def counts_as_try(self) -> bool:
        """Return whether this counts against the retry schedule.

        What is the relay's, our login's or our own fault never does.
        """
        return self.state is RecipientState.DEFERRED and self.fault in _COUNTED_FAULTS


def classify(phase: Phase, reply: Reply) -> Outcome:
    """Say what ``reply``, given in ``phase``, means for the recipient it was given for.

    Only a 2xx accepts. A 5xx rejects where it is the recipient's or the message's fault; every
    other refusal defers.
    """
    if reply.is_positive:
        return Outcome(state=_ACCEPTED, reply=reply, phase=phase)
    row = match_rule(phase, reply.code, reply.enhanced, reply.text)
    passes = reply.code < 500 or row.is_transient or row.fault not in _COUNTED_FAULTS
    return Outcome(
        state=RecipientState.DEFERRED if passes else RecipientState.REJECTED,
        fault=row.fault,
        retry_after_s=requested_delay_s(reply.text) if passes else None,
        reply=reply,
        phase=phase,
    )


def is_out_of_step(phase: Phase, reply: Reply) -> bool:
    """Return whether ``reply`` refuses the conversation itself, and no address or content in it.

    Nothing good can follow on that connection, and nobody but the relay is to blame.
    """
    if reply.code < 400:
        return False
    return match_rule(phase, reply.code, reply.enhanced, reply.text).is_out_of_step


def classify_error(error: RelayFailure) -> Outcome:
    """Say what a broken conversation means for the recipients it was about.

    In doubt where the final dot was out. Otherwise what the relay's refusal says, if it gave one
    before it hung up; a deferral where it did not.
    """
    reply = error.reply or Reply(code=0, lines=(str(error),))
    if error.in_doubt:
        return Outcome(
            state=RecipientState.IN_DOUBT, fault=error.fault, reply=reply, phase=error.phase
        )
    if error.reply is not None and error.phase is not None:
        return classify(error.phase, error.reply)
    return Outcome(state=RecipientState.DEFERRED, fault=error.fault, reply=reply, phase=error.phase)
