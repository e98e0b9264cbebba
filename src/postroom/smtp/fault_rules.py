"""Whom a reply blames: one table, read from the top; the first row that fits decides.

Rows go from what is said plainly to what is only likely. Enhanced codes are RFC 3463 and its
registry; a basic code alone says little, so texts of well-known relays stand beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroom.states import Fault, Phase

#: A reply says what it means in the beginning; the rest of a very long one is not looked at.
_READ_CHARACTERS = 1_000

_ANY = frozenset(Phase)
_AUTH = frozenset({Phase.AUTH})
_HANDSHAKE = frozenset({Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.STARTTLS})
_MAIL = frozenset({Phase.MAIL})
_RCPT = frozenset({Phase.RCPT})
_CONTENT = frozenset({Phase.DATA, Phase.BODY, Phase.DOT})


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One row: where it holds, what has to match, and who is to blame.

    ``enhanced`` and ``text`` are regular expressions; ``text`` is searched without regard to
    case. ``is_passing`` marks replies that say 5xx and mean "later", ``is_out_of_step`` those to
    the conversation itself: whatever else is said on this connection would be answered the same.
    """

    fault: Fault
    phases: frozenset[Phase] = _ANY
    codes: str = ""
    enhanced: str = ""
    text: str = ""
    is_transient: bool = False
    is_out_of_step: bool = False


def _any_of(*patterns: str) -> str:
    return "|".join(patterns)


#: What our account may send is used up: true of whatever we send next.
_QUOTA = (
    FaultRule(
        Fault.CREDENTIALS,
        text=_any_of(
            r"\b(daily|hourly|monthly|sending|messaging|account|email) [a-z ]{0,30}"
            r"\b(quota|limits?) (was |has been |is )?(exceeded|reached)",
            r"smtp relay limit exceeded",
            r"you (have|'ve) (exceeded|reached) your",
            r"maximum credits",
            r"unusual sending activity",
        ),
        is_transient=True,
    ),
)

#: Before MAIL nothing can be a recipient's or a message's fault.
_BEFORE_MAIL = (
    FaultRule(Fault.CREDENTIALS, _AUTH, codes=r"5"),
    FaultRule(
        Fault.CREDENTIALS, _AUTH, text=r"too many (failed )?login|credentials (are )?invalid"
    ),
    FaultRule(Fault.RELAY, _AUTH | _HANDSHAKE),
)

#: We are not logged in, or may not relay.
_LOGIN = (
    FaultRule(Fault.RELAY, codes=r"530", text=r"starttls"),
    FaultRule(Fault.CREDENTIALS, codes=r"530|534|535|538"),
    FaultRule(
        Fault.CREDENTIALS,
        text=_any_of(
            r"authentication (is )?(required|needed)|auth(entication)? first",
            r"(not|un)[ -]?authenticated (senders|to send)",
            r"invalid credentials|mail sending denied",
            r"\brelay(ing)? (access )?(is )?(denied|disallowed|not (permitted|allowed))",
            r"(unable|not permitted|not allowed) to relay|use me .{0,60}as a relay",
            r"\baccount (has been |is )?(suspended|blocked|locked|on hold|under review)",
        ),
    ),
)

#: Said of the conversation and not of any address in it, which the text would name: the relay has
#: lost its place, or thinks that we have. RFC 5321 section 4.2.2 has 500, 502 and 503 for it, RFC
#: 3463 section 3.6 X.5.0 (other), X.5.1 (invalid command, or out of sequence), X.5.5 (version).
#: Not among them: X.5.2 and X.5.4 (syntax, arguments), which relays give for an address or a
#: parameter they cannot read, and X.5.3 (too many recipients). A few give 5.5.0 to everything:
#: what names a mailbox, an address or the content is what it says, and so is any 5.5.0 to the dot.
_OF_NO_ADDRESS = (
    r"^(?!.*\b(recipients?|senders?|address(es)?|mailbox(es)?|users?|accounts?|domains?|"
    r"too long|content|spam|polic(y|ies)|reputation)\b)"
)
_OUT_OF_STEP = (
    FaultRule(Fault.RELAY, codes=r"503", is_out_of_step=True),
    FaultRule(
        Fault.RELAY,
        codes=r"[45]",
        text=_any_of(
            r"\bprotocol (error|violation)|synchroni[sz]ation error",
            r"\bcommand pipelining|pipelined (after|before|command)",
            r"\b(bad|wrong) (command )?sequence|out of (sequence|order)|no valid recipients",
        ),
        is_out_of_step=True,
    ),
    FaultRule(Fault.RELAY, codes=r"50[02]", text=_OF_NO_ADDRESS, is_out_of_step=True),
    FaultRule(Fault.RELAY, enhanced=r"[45]\.5\.[15]", text=_OF_NO_ADDRESS, is_out_of_step=True),
    FaultRule(
        Fault.RELAY,
        _MAIL | _RCPT | frozenset({Phase.DATA}),
        enhanced=r"[45]\.5\.0",
        text=_OF_NO_ADDRESS,
        is_out_of_step=True,
    ),
)

#: The sender's address or domain is not liked, wherever in the conversation that is said.
_SENDER = (
    FaultRule(Fault.MESSAGE, enhanced=r"[45]\.1\.[789]"),
    FaultRule(
        Fault.MESSAGE,
        enhanced=r"(?![45]\.3\.).*",
        text=r"sender (address rejected|verify failed)|mailfrom domain is listed|as this sender",
    ),
)

#: One mailbox is unknown, full or busy: not a sign of the relay, though it may sound like one.
_MAILBOX = (
    FaultRule(
        Fault.RECIPIENT,
        text=r"for the number of messages they can (send|receive)",
        is_transient=True,
    ),
    FaultRule(Fault.RECIPIENT, text=r"recipient thread limit"),
    FaultRule(Fault.RECIPIENT, text=r"messages to \S+@\S+ (temporarily )?deferred"),
    FaultRule(
        Fault.RECIPIENT, text=r"\b(user|recipient)\b.{0,60}\b(receiving (mail|too many)|rate limit)"
    ),
    FaultRule(Fault.RECIPIENT, enhanced=r"[45]\.2\.[0-24]"),
    FaultRule(Fault.RECIPIENT, _RCPT, enhanced=r"[45]\.1\.([0-6]|10)"),
    FaultRule(
        Fault.RECIPIENT,
        text=_any_of(
            r"\b(mailbox|user|account)( \S+@\S+)? (is )?(full|over|unavailable|disabled|unknown)\b",
            r"\b(no such|unknown|invalid) (user|mailbox|recipient)",
            r"user doesn't have|is no longer valid|does not exist",
            r"over ?quota|exceeded storage allocation|mailbox size limit",
        ),
    ),
    FaultRule(Fault.RECIPIENT, _RCPT, text=r"recipient address rejected: (user|need)"),
)

#: Try again later, and it will pass.
_GREYLIST = (
    FaultRule(Fault.RECIPIENT, _RCPT, text=r"gr[ea]y-? ?list", is_transient=True),
    FaultRule(Fault.MESSAGE, text=r"gr[ea]y-? ?list", is_transient=True),
    FaultRule(
        Fault.RECIPIENT, _RCPT, text=r"too many recipients$|per transaction", is_transient=True
    ),
    FaultRule(
        Fault.MESSAGE, _CONTENT, text=r"too many (recipients|rcpts?)\b(?! from)", is_transient=True
    ),
)

#: Commands, or a name of ours, that this relay does not take.
_OURSELVES = (
    FaultRule(Fault.OURSELVES, text=r"helo command rejected|helo/ehlo argument"),
    FaultRule(
        Fault.OURSELVES,
        codes=r"555|50[04]",
        enhanced=r"(?!5\.[16]\.).*",
        text=r"^(?!.*(rejected|too long))",
    ),
)

#: Its load, its state, or its opinion of our address on the network.
_RELAY = (
    FaultRule(Fault.RELAY, codes=r"421"),
    FaultRule(
        Fault.RELAY, enhanced=r"4\.7\.28|[45]\.3\.[0125]|4\.4\.[05]|4\.7\.(500|65\d)|5\.7\.606"
    ),
    FaultRule(
        Fault.RELAY,
        text=_any_of(
            r"throttl|rate[- ]?limited|sending rate|unusual rate|frequency limited",
            r"too (many|frequent) (concurrent |simultaneous )?(connect|messages|sessions|emails)",
            r"too many (recipients from|errors)|too much (mail|load)|queue quota",
            r"\bclient (host )?\S* ?(blocked|rejected|blacklisted)",
            r"\b(host|helo|ip)\b.{0,40}\b(blocked|listed|blacklisted|banned|not authorized)",
            r"\bblock ?list|\bbanned sending ip|connections (will )?not (be )?accepted|reverse dns",
            r"(service|system|server|resources?) (is |are |currently )?(temporarily )?"
            r"(not available|unavailable|busy)",
            r"temporary (lookup (failure|error)|local problem|service failure|system problem)",
            r"local error in processing|timeout waiting|insufficient system|shutting down",
            r"out of (disk space|memory)|no space left",
        ),
        is_transient=True,
    ),
)

#: The phase decides where nothing plain was said.
_PHASE = (
    FaultRule(Fault.MESSAGE, enhanced=r"[45]\.(2\.3|3\.4|6\.\d+)"),
    FaultRule(Fault.RECIPIENT, _RCPT),
    FaultRule(Fault.RELAY, _MAIL, codes=r"45[12]", enhanced=r"(?!4\.7).*"),
    FaultRule(Fault.RELAY, _CONTENT, codes=r"4", enhanced=r"4\.[34]\.\d+"),
    FaultRule(Fault.MESSAGE),
)

RULES: tuple[FaultRule, ...] = (
    *_QUOTA,
    *_BEFORE_MAIL,
    *_LOGIN,
    *_OUT_OF_STEP,
    *_SENDER,
    *_MAILBOX,
    *_GREYLIST,
    *_OURSELVES,
    *_RELAY,
    *_PHASE,
)


@dataclass(frozen=True, slots=True)
class _Compiled:
    row: FaultRule
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


def _compiled(rows: tuple[FaultRule, ...]) -> Iterator[_Compiled]:
    for row in rows:
        yield _Compiled(
            row,
            re.compile(row.codes),
            re.compile(row.enhanced),
            re.compile(row.text, re.IGNORECASE),
        )


_ROWS = tuple(_compiled(RULES))


def match_rule(phase: Phase, code: int, enhanced: str | None, text: str) -> FaultRule:
    """Return the first row that fits a refusal: 4xx, 5xx, or what does not belong there."""
    said = text[:_READ_CHARACTERS]
    return next(
        compiled.row for compiled in _ROWS if compiled.fits(phase, str(code), enhanced or "", said)
    )
