"""Whose fault a refusal is: one table, read from the top; the first rule that matches decides.

The rules go from plain statements to what is only probable. Enhanced status codes are those of RFC
3463 and its registry. A basic code alone says little, so there are texts of well-known relays too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroom.states import Fault, Phase

#: The meaning is at the beginning of a reply; the rest of a very long one is not searched.
_MAX_CHARACTERS = 1_000

_ANY = frozenset(Phase)
_AUTH = frozenset({Phase.AUTH})
_HANDSHAKE = frozenset({Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.STARTTLS})
_MAIL = frozenset({Phase.MAIL})
_RCPT = frozenset({Phase.RCPT})
_CONTENT = frozenset({Phase.DATA, Phase.BODY, Phase.DOT})


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One row of the table: what has to match, and whose fault it then is.

    Attributes:
        fault: Whose fault the refusal is.
        phases: The commands whose replies it is about.
        codes: A regular expression for the beginning of the reply code; empty: any.
        enhanced: A regular expression for the whole enhanced status code; empty: any, or none.
        text: A regular expression to search in the text, in any case; empty: any text.
        is_transient: The reply says 5xx and means "later".
        is_out_of_step: The reply refuses the order of the commands: everything else on this
            connection would be refused too.
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


#: The account has used up its quota; this is true of the next mail too.
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

#: Before MAIL, nothing can be the fault of a recipient or a message.
_BEFORE_MAIL = (
    FaultRule(Fault.CREDENTIALS, _AUTH, codes=r"5"),
    FaultRule(
        Fault.CREDENTIALS, _AUTH, text=r"too many (failed )?login|credentials (are )?invalid"
    ),
    FaultRule(Fault.RELAY, _AUTH | _HANDSHAKE),
)

#: The client is not logged in, or may not relay.
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

#: The reply is about the order of the commands and not about an address, which its text would
#: name: relay and client are out of step. RFC 5321 section 4.2.2 has 500, 502 and 503 for it, RFC
#: 3463 section 3.6 X.5.0 (other), X.5.1 (invalid command, or out of sequence), X.5.5 (version).
#: Not X.5.2 and X.5.4 (syntax, arguments), which relays use for an address or a parameter that
#: they cannot read, and not X.5.3 (too many recipients). A few relays use 5.5.0 for everything: a
#: text about a mailbox, an address or the content is taken at its word, and so is 5.5.0 to the dot.
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

#: The relay refuses the sender's address or domain, in whatever phase.
_SENDER = (
    FaultRule(Fault.MESSAGE, enhanced=r"[45]\.1\.[789]"),
    FaultRule(
        Fault.MESSAGE,
        enhanced=r"(?![45]\.3\.).*",
        text=r"sender (address rejected|verify failed)|mailfrom domain is listed|as this sender",
    ),
)

#: One mailbox is unknown, full or busy. Some of these texts sound like a fault of the relay.
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

#: A later attempt will succeed.
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

#: The relay does not accept a command of the client, or its name.
_OURSELVES = (
    FaultRule(Fault.OURSELVES, text=r"helo command rejected|helo/ehlo argument"),
    FaultRule(
        Fault.OURSELVES,
        codes=r"555|50[04]",
        enhanced=r"(?!5\.[16]\.).*",
        text=r"^(?!.*(rejected|too long))",
    ),
)

#: The load or state of the relay, or the reputation of our IP address.
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

#: Nothing above matched: the phase decides.
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
class _CompiledRule:
    rule: FaultRule
    codes: re.Pattern[str]
    enhanced: re.Pattern[str]
    text: re.Pattern[str]

    def matches(self, phase: Phase, code: str, enhanced: str, text: str) -> bool:
        return (
            phase in self.rule.phases
            and self.codes.match(code) is not None
            and (not self.rule.enhanced or self.enhanced.fullmatch(enhanced) is not None)
            and self.text.search(text) is not None
        )


def _compile(rules: tuple[FaultRule, ...]) -> Iterator[_CompiledRule]:
    for rule in rules:
        yield _CompiledRule(
            rule,
            re.compile(rule.codes),
            re.compile(rule.enhanced),
            re.compile(rule.text, re.IGNORECASE),
        )


_COMPILED_RULES = tuple(_compile(RULES))


def match_rule(phase: Phase, code: int, enhanced: str | None, text: str) -> FaultRule:
    """Return the first rule that matches a refusal; the last rule matches everything.

    Args:
        phase: The command that was answered.
        code: The reply code: 4xx, 5xx, or an unexpected one.
        enhanced: The enhanced status code, if there is one.
        text: The text of the reply, in one line.
    """
    start = text[:_MAX_CHARACTERS]
    return next(
        compiled.rule
        for compiled in _COMPILED_RULES
        if compiled.matches(phase, str(code), enhanced or "", start)
    )
