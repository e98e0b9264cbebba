"""MAIL, RCPT and DATA of one transaction, in pieces that may be written without reading between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from postroom.message.envelope import Envelope
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.reply import Outcome, Reply
from postroom.states import Fault, Phase, RecipientState


def local_refusal(envelope: Envelope, capabilities: Capabilities) -> Outcome | None:
    """Return why a relay could not take ``envelope``; None where nothing is known against it."""
    limit = capabilities.size_bytes
    if limit is not None and envelope.size_bytes > limit:
        return _refused(
            f"5.3.4 not sent: the relay takes up to {limit} bytes, got: {envelope.size_bytes}",
            Fault.MESSAGE,
        )
    if envelope.needs_smtputf8 and not capabilities.has_smtputf8:
        return _refused(
            "5.6.7 not sent: an address is not ASCII, and the relay lacks SMTPUTF8",
            Fault.RECIPIENT,
        )
    return None


def _refused(text: str, fault: Fault) -> Outcome:
    return Outcome(
        state=RecipientState.REJECTED,
        fault=fault,
        reply=Reply(code=0, lines=(text,)),
        phase=Phase.MAIL,
    )


#: The replies to a piece must fit in the relay's and our socket buffers, or both sides would
#: wait for the other to read (RFC 2920 section 3.1).
_RECIPIENTS_EACH = 100

_BEFORE_XTEXT = {ord(letter): f"+{ord(letter):02X}" for letter in "+="}


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True)
class CommandGroup:
    """Commands for one write, and the phase of the reply to each."""

    commands: bytes
    phases: tuple[Phase, ...]


_ONE_RECIPIENT = (Phase.MAIL, Phase.RCPT, Phase.DATA)


def transaction_commands(envelope: Envelope, capabilities: Capabilities) -> list[CommandGroup]:
    """Return the commands that open a transaction.

    With PIPELINING one piece for each hundred recipients, without it one for each command.

    No address can break out of its command: `Envelope` refuses those that could.
    """
    mail = f"MAIL FROM:<{envelope.sender}>{_mail_parameters(envelope, capabilities)}\r\n"
    after = f">{_rcpt_parameters(envelope, capabilities)}\r\n"
    if capabilities.has_pipelining and len(envelope.recipients) == 1:
        commands = f"{mail}RCPT TO:<{envelope.recipients[0]}{after}DATA\r\n"
        return [CommandGroup(commands.encode(), _ONE_RECIPIENT)]
    rcpts = [f"RCPT TO:<{recipient}{after}" for recipient in envelope.recipients]
    if capabilities.has_pipelining:
        return list(_pipelined(mail, rcpts))
    phases = [Phase.MAIL, *(Phase.RCPT for _ in rcpts), Phase.DATA]
    commands_one_by_one = [mail, *rcpts, "DATA\r\n"]
    return [
        CommandGroup(command.encode(), (phase,))
        for command, phase in zip(commands_one_by_one, phases, strict=True)
    ]


def _pipelined(mail: str, rcpts: list[str]) -> Iterator[CommandGroup]:
    for start in range(0, len(rcpts), _RECIPIENTS_EACH):
        some = rcpts[start : start + _RECIPIENTS_EACH]
        commands, phases = some, [Phase.RCPT] * len(some)
        if start == 0:
            commands, phases = [mail, *commands], [Phase.MAIL, *phases]
        if start + _RECIPIENTS_EACH >= len(rcpts):
            commands, phases = [*commands, "DATA\r\n"], [*phases, Phase.DATA]
        yield CommandGroup("".join(commands).encode(), tuple(phases))


def _mail_parameters(envelope: Envelope, capabilities: Capabilities) -> str:
    parameters = ""
    if capabilities.has_size:
        parameters += f" SIZE={envelope.size_bytes}"
    if envelope.needs_smtputf8:
        parameters += " SMTPUTF8"
        if capabilities.has_8bitmime:
            parameters += " BODY=8BITMIME"
    notice = envelope.dsn
    if notice is not None and capabilities.has_dsn:
        if notice.ret:
            parameters += f" RET={notice.ret}"
        if notice.envid:
            parameters += f" ENVID={notice.envid.translate(_BEFORE_XTEXT).replace(' ', '+20')}"
    return parameters


def _rcpt_parameters(envelope: Envelope, capabilities: Capabilities) -> str:
    notice = envelope.dsn
    if notice is None or not notice.notify or not capabilities.has_dsn:
        return ""
    return f" NOTIFY={','.join(notice.notify)}"
