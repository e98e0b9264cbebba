"""Checks a relay step by step, for people: what works, and what is probably wrong.

It uses the same code as a worker, so what works here works there.
"""

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
#: A certificate that expires sooner than this gets a warning.
_EXPIRES_SOON_DAYS = 14

_STEP_NAMES = {
    Phase.CONNECT: "connect",
    Phase.GREETING: "greeting",
    Phase.EHLO: "extensions",
    Phase.STARTTLS: "TLS",
    Phase.AUTH: "login",
}

_DRY_RUN_DETAILS = {
    "null": "mail is discarded, and nobody gets it",
    "file": "mail is written into a folder, and nobody gets it",
    "console": "mail is shown by the worker, and nobody gets it",
}

_PIPELINING_DETAILS = {
    Pipelining.FULL: "announced: the next mail begins with the final dot of the mail before",
    Pipelining.TRANSACTION: "announced, and only used within a mail, as the URL says",
    Pipelining.OFF: "announced, and not used, as the URL says",
}

_CAUSES: dict[type[RelayError], str] = {
    ConnectError: "The host or port is wrong, the relay is down, or it refuses this address.",
    RelayTimeout: "A firewall drops the connection (many networks block port 25), or the port "
    "begins with TLS and needs smtps://.",
    TLSError: "The relay offers no TLS on this port, or its certificate cannot be verified: check "
    "the host name, or give its authority with ca=FILE.",
    AuthError: "The user name, password or token is wrong or expired, or the account may not use "
    "SMTP; some providers require a password made for the application.",
    Disconnected: "The server is not a mail relay, or it does not accept this client.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckStep:
    """The result of one step.

    Attributes:
        name: What was checked, in one or two words.
        ok: Whether it works.
        detail: What was seen.
        cause: The probable reason if it does not work, or a warning; empty otherwise.
    """

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
    """Yield each step once it is done; the first that fails is the last.

    Args:
        relay: The relay to check.
        mail: Envelope and content of a real mail to send at the end; None: no mail is sent.
        clock: A monotonic clock, in seconds.
        now: The wall clock, in seconds since the epoch, to check the certificate against.
    """
    if relay.is_dry_run:
        yield CheckStep(name="dry run", ok=True, detail=_DRY_RUN_DETAILS[relay.scheme])
        return
    try:
        addresses = resolve(relay, timeout_s=relay.timeouts.connect_s)
    except RelayError as error:
        yield _failed_step("resolve", error)
        return
    yield CheckStep(
        name="resolve", ok=True, detail=", ".join(_address_text(where) for _, where in addresses)
    )
    try:
        yield from _session_steps(relay, mail, clock, now)
    except RelayError as error:
        yield _failed_step(_STEP_NAMES.get(error.phase or Phase.CONNECT, "mail"), error)


def _session_steps(
    relay: Relay,
    mail: tuple[Envelope, bytes] | None,
    clock: Callable[[], float],
    now: Callable[[], float],
) -> Iterator[CheckStep]:
    connection = Connection(relay, clock=clock)
    try:
        yield CheckStep(name="connect", ok=True, detail=_address_text(connection.peer))
        greeting = read_greeting(connection)
        yield CheckStep(name="greeting", ok=True, detail=str(greeting))
        capabilities = say_ehlo(connection)
        if start_tls(connection, capabilities):
            capabilities = say_ehlo(connection)
        yield CheckStep(name="extensions", ok=True, detail=_extensions(capabilities))
        yield CheckStep(name="pipelining", ok=True, detail=_pipelining(capabilities, relay))
        yield from _tls_steps(connection.tls, relay, now)
        if relay.has_login:
            mechanism = authenticate(connection, capabilities)
            yield CheckStep(
                name="login", ok=True, detail=f"{relay.username} by {mechanism.upper()}"
            )
        if mail is not None:
            yield from _mail_steps(Session(connection, capabilities, clock=clock), *mail)
    finally:
        connection.close()


def _tls_steps(
    tls: ssl.SSLSocket | None, relay: Relay, now: Callable[[], float]
) -> Iterator[CheckStep]:
    if tls is None:
        detail = "a socket of this machine" if relay.path else "clear text, as the URL allows"
        yield CheckStep(name="TLS", ok=True, detail=detail)
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
    cause = (
        "It expires soon and has to be renewed at the relay." if days < _EXPIRES_SOON_DAYS else ""
    )
    detail = f"for {', '.join(names)}; valid until {ends}, {days} more days"
    yield CheckStep(name="certificate", ok=True, detail=detail, cause=cause)


def _mail_steps(session: Session, envelope: Envelope, content: bytes) -> Iterator[CheckStep]:
    refusal = session.local_refusal(envelope)
    outcomes: list[Outcome | None]
    early: Reply | None = None
    if refusal is not None:
        outcomes = [refusal] * len(envelope.recipients)
    else:
        session.send_envelope(envelope)
        replies = session.read_envelope_replies()
        outcomes = list(replies.outcomes())
        if replies.is_ready_for_content:
            session.send_content([content])
            final_replies, early = _end_data(session)
            answers = iter(final_replies)
            outcomes = [outcome or classify(Phase.DOT, next(answers)) for outcome in outcomes]
    session.quit()
    for recipient, outcome in zip(envelope.recipients, outcomes, strict=True):
        assert outcome is not None, "without content, every recipient has an outcome"
        yield _recipient_step(recipient, outcome)
    if early is not None:
        yield _early_step(early)


def _end_data(session: Session) -> tuple[tuple[Reply, ...], Reply | None]:
    """Send the final dot, and RSET with it if the next mail would begin in the same write."""
    if session.pipelining is Pipelining.FULL:
        return session.end_data_with_reset()
    return session.end_data(), None


def _early_step(reply: Reply) -> CheckStep:
    if reply.is_positive:
        return CheckStep(
            name="final dot", ok=True, detail="the next mail may begin in the same write"
        )
    return CheckStep(
        name="final dot",
        ok=True,
        detail=f"the next mail may not begin in the same write: {reply}",
        cause="Each mail takes one more round trip. Workers find this out by themselves; with "
        "pipelining=transaction in the URL they know from the start.",
    )


def _pipelining(capabilities: Capabilities, relay: Relay) -> str:
    if not capabilities.has_pipelining:
        return "not announced: one command at a time"
    return _PIPELINING_DETAILS[relay.pipelining]


def _recipient_step(recipient: str, outcome: Outcome) -> CheckStep:
    is_accepted = outcome.state is RecipientState.ACCEPTED
    cause = "" if is_accepted else f"Probably the fault of: {outcome.fault}."
    return CheckStep(
        name="mail",
        ok=is_accepted,
        detail=f"{recipient} {outcome.state}: {outcome.reply}",
        cause=cause,
    )


def _extensions(capabilities: Capabilities) -> str:
    return ", ".join(line for line in capabilities.lines if line.strip()) or "none"


def _address_text(where: object) -> str:
    """Return a socket address as people write it."""
    if isinstance(where, tuple):
        host = str(where[0])
        return f"[{host}]:{where[1]}" if ":" in host else f"{host}:{where[1]}"
    return str(where)


def _failed_step(name: str, error: RelayError) -> CheckStep:
    return CheckStep(name=name, ok=False, detail=str(error), cause=_CAUSES.get(type(error), ""))
