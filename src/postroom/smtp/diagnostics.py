"""A relay looked at step by step, for people: what works, and what is likely wrong."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from postroom.errors import (
    AuthError,
    ConnectError,
    Disconnected,
    RelayError,
    RelayTimeout,
    TLSError,
)
from postroom.message.envelope import Envelope
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay
from postroom.smtp.auth import authenticate
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.connection import Connection
from postroom.smtp.dial import resolve
from postroom.smtp.handshake import read_greeting, say_ehlo, start_tls
from postroom.smtp.reply import Outcome, Reply, classify
from postroom.smtp.session import Session
from postroom.states import Phase, RecipientState

_DAY_S = 86_400
#: A certificate that ends sooner than this is worth a word.
_SOON_DAYS = 14

_NAMES = {
    Phase.CONNECT: "connect",
    Phase.GREETING: "greeting",
    Phase.EHLO: "extensions",
    Phase.STARTTLS: "TLS",
    Phase.AUTH: "login",
}

_DRY_RUNS = {
    "null": "mail is discarded, and nobody gets it",
    "file": "mail is written into a folder, and nobody gets it",
    "console": "mail is shown by the worker, and nobody gets it",
}

_PIPELINING = {
    Pipelining.FULL: "announced: the next mail begins with the final dot of the one before",
    Pipelining.TRANSACTION: "announced: used within a mail only, as the URL says",
    Pipelining.OFF: "announced, and not used, as the URL says",
}

_CAUSES: dict[type[RelayError], str] = {
    ConnectError: "The host or port is wrong, the relay is down, or it does not serve our address.",
    RelayTimeout: "A firewall drops the connection (many networks block port 25), or the port "
    "begins with TLS and wants smtps://.",
    TLSError: "The relay offers no TLS on this port, or a certificate we cannot verify: compare "
    "the host name, or give its authority with ca=FILE.",
    AuthError: "User name, password or token are wrong or expired, or the account may not use "
    "SMTP; some providers want a password made for the application.",
    Disconnected: "What listens there is no mail relay, or it closes on clients it does not know.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStep:
    """One step: ``detail`` is what was seen, ``cause`` the likely reason where it is not well."""

    name: str
    ok: bool
    detail: str
    cause: str = ""


def diagnose(
    relay: Relay,
    *,
    mail: tuple[Envelope, bytes] | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Iterator[CheckStep]:
    """Yield each step as it is done; the first that fails is the last.

    ``mail`` is one real mail to send in the end. ``clock`` is monotonic, ``now`` gives seconds
    since the epoch; certificates are held against it.
    """
    if relay.is_dry_run:
        yield CheckStep(name="dry run", ok=True, detail=_DRY_RUNS[relay.scheme])
        return
    try:
        addresses = resolve(relay, timeout_s=relay.timeouts.connect_s)
    except RelayError as error:
        yield _failed("resolve", error)
        return
    yield CheckStep(
        name="resolve", ok=True, detail=", ".join(_shown(where) for _, where in addresses)
    )
    try:
        yield from _conversation(relay, mail, clock, now)
    except RelayError as error:
        yield _failed(_NAMES.get(error.phase or Phase.CONNECT, "mail"), error)


def _conversation(
    relay: Relay,
    mail: tuple[Envelope, bytes] | None,
    clock: Callable[[], float],
    now: Callable[[], float],
) -> Iterator[CheckStep]:
    connection = Connection(relay, clock=clock)
    try:
        yield CheckStep(name="connect", ok=True, detail=_shown(connection.peer))
        greeting = read_greeting(connection)
        yield CheckStep(name="greeting", ok=True, detail=str(greeting))
        capabilities = say_ehlo(connection)
        if start_tls(connection, capabilities):
            capabilities = say_ehlo(connection)
        yield CheckStep(name="extensions", ok=True, detail=_extensions(capabilities))
        yield CheckStep(name="pipelining", ok=True, detail=_pipelining(capabilities, relay))
        yield from _encryption(connection.tls, relay, now)
        if relay.has_login:
            mechanism = authenticate(connection, capabilities)
            yield CheckStep(
                name="login", ok=True, detail=f"{relay.username} by {mechanism.upper()}"
            )
        if mail is not None:
            yield from _mail(Session(connection, capabilities, clock=clock), *mail)
    finally:
        connection.close()


def _encryption(
    tls: ssl.SSLSocket | None, relay: Relay, now: Callable[[], float]
) -> Iterator[CheckStep]:
    if tls is None:
        local = "a socket of this machine" if relay.path else "clear text, as the URL allows"
        yield CheckStep(name="TLS", ok=True, detail=local)
        return
    cipher = tls.cipher()
    yield CheckStep(name="TLS", ok=True, detail=f"{tls.version()}, {cipher[0] if cipher else '?'}")
    certificate = tls.getpeercert()
    if not certificate:
        yield CheckStep(name="certificate", ok=True, detail="not verified: tls=opportunistic")
        return
    names = [str(kind_and_name[1]) for kind_and_name in certificate.get("subjectAltName", ())]
    ends = str(certificate["notAfter"])
    days = int((ssl.cert_time_to_seconds(ends) - now()) // _DAY_S)
    cause = "It has to be renewed at the relay soon." if days < _SOON_DAYS else ""
    detail = f"for {', '.join(names)}; valid until {ends}, {days} more days"
    yield CheckStep(name="certificate", ok=True, detail=detail, cause=cause)


def _mail(session: Session, envelope: Envelope, content: bytes) -> Iterator[CheckStep]:
    decided = session.local_refusal(envelope)
    outcomes: list[Outcome | None]
    early: Reply | None = None
    if decided is not None:
        outcomes = [decided] * len(envelope.recipients)
    else:
        session.send_envelope(envelope)
        opening = session.read_envelope_replies()
        outcomes = list(opening.outcomes())
        if opening.is_ready_for_content:
            session.send_content([content])
            replies, early = _finished(session)
            answers = iter(replies)
            outcomes = [outcome or classify(Phase.DOT, next(answers)) for outcome in outcomes]
    session.quit()
    for recipient, outcome in zip(envelope.recipients, outcomes, strict=True):
        assert outcome is not None, "a mail that did not open has an outcome for everybody"
        yield _sent(recipient, outcome)
    if early is not None:
        yield _across_the_dot(early)


def _finished(session: Session) -> tuple[tuple[Reply, ...], Reply | None]:
    """Finish the mail; where the next one would be opened in the same write, try whether it can."""
    if session.pipelining is Pipelining.FULL:
        return session.finish_and_reset()
    return session.end_data(), None


def _across_the_dot(reply: Reply) -> CheckStep:
    if reply.is_positive:
        return CheckStep(
            name="final dot", ok=True, detail="the next mail may begin in the same write"
        )
    return CheckStep(
        name="final dot",
        ok=True,
        detail=f"the next mail may not begin in the same write: {reply}",
        cause="Each mail takes a round trip more. Workers find that out by themselves; "
        "pipelining=transaction in the URL tells them before.",
    )


def _pipelining(capabilities: Capabilities, relay: Relay) -> str:
    if not capabilities.has_pipelining:
        return "not announced: one command at a time"
    return _PIPELINING[relay.pipelining]


def _sent(recipient: str, outcome: Outcome) -> CheckStep:
    is_accepted = outcome.state is RecipientState.ACCEPTED
    cause = "" if is_accepted else f"Whose fault it is, as far as one can tell: {outcome.fault}."
    return CheckStep(
        name="mail",
        ok=is_accepted,
        detail=f"{recipient} {outcome.state}: {outcome.reply}",
        cause=cause,
    )


def _extensions(capabilities: Capabilities) -> str:
    return ", ".join(line for line in capabilities.lines if line.strip()) or "none"


def _shown(where: object) -> str:
    """Return a socket address as people write it."""
    if isinstance(where, tuple):
        host = str(where[0])
        return f"[{host}]:{where[1]}" if ":" in host else f"{host}:{where[1]}"
    return str(where)


def _failed(name: str, error: RelayError) -> CheckStep:
    return CheckStep(name=name, ok=False, detail=str(error), cause=_CAUSES.get(type(error), ""))
