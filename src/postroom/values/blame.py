"""Whom a reply blames: one table, read from the top; the first row that fits decides.

Rows go from what is said plainly to what is only likely. Enhanced codes are RFC 3463 and its
registry; a basic code alone says little, so texts of well-known relays stand beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroom.values.states import Fault, Phase

_ANY = frozenset(Phase)
_HANDSHAKE = frozenset({Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.STARTTLS})
_RCPT = frozenset({Phase.RCPT})
_CONTENT = frozenset({Phase.DATA, Phase.BODY, Phase.DOT})


@dataclass(frozen=True, slots=True)
class Row:
    """One row: where it holds, what has to match, and who is to blame.

    ``enhanced`` and ``text`` are regular expressions; ``text`` is searched without regard to
    case. ``is_passing`` marks replies that say 5xx and mean "later".
    """

    fault: Fault
    phases: frozenset[Phase] = _ANY
    codes: str = ""
    enhanced: str = ""
    text: str = ""
    is_passing: bool = False


def _words(*phrases: str) -> str:
    return "|".join(phrases)


#: We are not logged in, may not relay, or have used up what our account may send. It holds for
#: whatever we send next, so it must not be counted against a recipient.
_ACCOUNT = (
    Row(Fault.CREDENTIALS, frozenset({Phase.AUTH}), codes=r"5"),
    Row(Fault.CREDENTIALS, frozenset({Phase.AUTH}), text=r"too many (failed )?login|credential"),
    Row(Fault.RELAY, frozenset({Phase.AUTH})),
    Row(Fault.RELAY, _HANDSHAKE),
    Row(Fault.CREDENTIALS, codes=r"530|534|535|538"),
    Row(
        Fault.CREDENTIALS,
        text=_words(
            r"authentication (is )?required",
            r"auth(entication)? (is )?(needed|first)",
            r"(not|un)[ -]?authenticated to send",
            r"must (be )?authenticat",
            r"relay(ing)? (access )?(is )?(denied|not (permitted|allowed))",
            r"unable to relay",
            r"not permitted to relay",
            r"do(es)? not relay",
            r"account (has been |is )?(suspended|disabled|blocked|locked|on hold|under review)",
        ),
    ),
    Row(
        Fault.CREDENTIALS,
        text=_words(
            r"(sending|messaging|message|daily|hourly|account|monthly) (user )?"
            r"(sending )?(quota|limits?|credits?) (was |has been |is )?(exceeded|reached|used)",
            r"exceeded (your|the|its|their)? ?(daily|hourly|monthly|messaging|sending|outbound)",
            r"maximum credits",
            r"(quota|limit) (is |was |has been )?exceeded for (your|this) account",
            r"too many emails per",
        ),
        is_passing=True,
    ),
)

#: One mailbox is busy or full: not a sign of the relay, though it sounds like one.
_MAILBOX = (
    Row(Fault.RECIPIENT, _RCPT, text=r"too many recipients", codes=r"452|552", is_passing=True),
    Row(
        Fault.RECIPIENT,
        text=r"(user|recipient|mailbox)[^.]{0,60} (is )?(receiving mail|receiving too many)",
    ),
    Row(Fault.RECIPIENT, enhanced=r"[45]\.2\.[0-24]", codes=r"4(?!21)|5"),
    Row(
        Fault.RECIPIENT,
        text=_words(
            r"mailbox (is )?(full|over|exceed|quota)",
            r"(over|exceed(s|ed|ing)?) (its |the |his |her )?(storage |disk )?quota",
            r"(user|recipient)('s)? (is )?over quota",
            r"mailbox size limit",
        ),
    ),
    Row(Fault.RECIPIENT, _RCPT, text=r"gr[ea]y[- ]?list", is_passing=True),
    Row(Fault.MESSAGE, text=r"gr[ea]y[- ]?list", is_passing=True),
)

#: The relay, or its opinion of our address on the network.
_RELAY = (
    Row(Fault.RELAY, codes=r"421"),
    Row(Fault.RELAY, enhanced=r"4\.7\.28|[45]\.3\.[125]|4\.4\.5|4\.7\.(500|650|651|652)"),
    Row(
        Fault.RELAY,
        text=_words(
            r"throttl",
            r"rate[- ]limit|ratelimit|sending rate|unusual rate",
            r"too many (concurrent |simultaneous )?(connections|messages|sessions|mails)",
            r"(connections?|messages?) (rate )?limit exceeded",
            r"too much (mail|load)",
            r"(client )?host \S* ?(is )?(blocked|blacklisted|rejected|not allowed)",
            r"blocked (using|by|due to) .*(spamhaus|dnsbl|rbl|barracuda|spamcop|list)",
            r"(listed|found) (at|in|on|by) .*(spamhaus|dnsbl|rbl|barracuda|spamcop|block)",
            r"(your )?(ip|ip address|network|server|messages from)[^.]{0,60}"
            r"(blocked|blacklisted|blocklisted|on our block list|banned|poor reputation)",
            r"temporar(y|ily) (lookup failure|deferred due to user complaints)",
            r"local (problem|error in processing|configuration error)",
            r"insufficient (system )?(storage|resources)",
            r"out of (disk space|memory)|no space left|low on space",
            r"(service|system|server) (is )?(temporarily )?(not available|unavailable)",
            r"(service|system|server) (is )?(too )?(busy|closing)",
            r"(shutting|shut) down",
        ),
        is_passing=True,
    ),
    Row(Fault.RELAY, codes=r"503"),
    Row(Fault.OURSELVES, codes=r"500|502|504|555", is_passing=True),
)

#: Size, content, policy, the sender: whoever receives it.
_MESSAGE = (
    Row(Fault.MESSAGE, enhanced=r"[45]\.(3\.4|2\.3|6\.\d+)"),
    Row(Fault.MESSAGE, enhanced=r"[45]\.1\.[789]"),
    Row(Fault.RECIPIENT, enhanced=r"[45]\.(1|2)\.\d+", phases=_RCPT | _CONTENT),
    Row(
        Fault.MESSAGE,
        text=_words(
            r"(message|mail|size)[^.]{0,40}(too (large|big)|exceeds?)",
            r"spam|unsolicited|virus|malware|phish",
            r"dmarc|dkim|\bspf\b|sender policy",
            r"sender (address )?(is )?(rejected|denied|not allowed|invalid|verif)",
            r"(send|sending) (mail )?as this sender",
            r"not (owned|verified|authorized to (send|use))|verified sender|sender identity",
            r"content (rejected|denied|policy)|policy (violation|reasons)",
        ),
    ),
)

#: Nothing plain was said: the phase decides.
_PHASE = (
    Row(Fault.RECIPIENT, _RCPT),
    Row(Fault.RELAY, frozenset({Phase.MAIL}), codes=r"45[12]", enhanced=r"4\.[034]\.\d+|"),
    Row(Fault.RELAY, _CONTENT, codes=r"4", enhanced=r"4\.[34]\.\d+"),
    Row(Fault.MESSAGE),
)

TABLE: tuple[Row, ...] = (*_ACCOUNT, *_MAILBOX, *_RELAY, *_MESSAGE, *_PHASE)


@dataclass(frozen=True, slots=True)
class _Compiled:
    row: Row
    codes: re.Pattern[str]
    enhanced: re.Pattern[str]
    text: re.Pattern[str]

    def fits(self, phase: Phase, code: str, enhanced: str, text: str) -> bool:
        return (
            phase in self.row.phases
            and self.codes.match(code) is not None
            and (not self.row.enhanced or self.enhanced.fullmatch(enhanced) is not None)
            and self.text.search(text) is not None
        )


def _compiled(rows: tuple[Row, ...]) -> Iterator[_Compiled]:
    for row in rows:
        yield _Compiled(
            row,
            re.compile(row.codes),
            re.compile(row.enhanced),
            re.compile(row.text, re.IGNORECASE),
        )


_ROWS = tuple(_compiled(TABLE))


def blame(phase: Phase, code: int, enhanced: str | None, text: str) -> Row:
    """Return the first row that fits a refusal: 4xx, 5xx, or what does not belong there."""
    return next(
        compiled.row for compiled in _ROWS if compiled.fits(phase, str(code), enhanced or "", text)
    )
