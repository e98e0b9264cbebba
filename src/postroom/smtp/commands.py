"""The commands of one transaction, in groups that are each sent in one write (RFC 2920).

No address can break out of its command.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from postroom.message.envelope import Envelope
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.reply import Outcome, Reply
from postroom.states import Fault, Phase, RecipientState

#: Aborts the current transaction (RFC 5321 section 4.1.1.5).
RSET = b"RSET\r\n"
#: Ends the content, which ends with CRLF (RFC 5321 section 4.1.1.4).
FINAL_DOT = b".\r\n"

#: The replies to a group must fit into the socket buffers of both sides, or each would wait for
#: the other to read (RFC 2920 section 3.1).
_RECIPIENTS_PER_GROUP = 100

_ONE_RECIPIENT = (Phase.MAIL, Phase.RCPT, Phase.DATA)

#: xtext (RFC 3461 section 4): "+" and "=" are written as "+" and two hexadecimal digits.
_XTEXT = {ord(character): f"+{ord(character):02X}" for character in "+="}


def local_refusal(envelope: Envelope, capabilities: Capabilities) -> Outcome | None:
    """Return why a relay with ``capabilities`` would refuse ``envelope``; None if it would not.

    Args:
        envelope: The sender, the recipients and the size.
        capabilities: What the relay announced in its reply to EHLO.
    """
    limit = capabilities.size_bytes
    if limit is not None and envelope.size_bytes > limit:
        return _refused(
            f"5.3.4 not sent: the mail has {envelope.size_bytes} bytes, and the relay takes up to "
            f"{limit}",
            Fault.MESSAGE,
        )
    if envelope.needs_smtputf8 and not capabilities.has_smtputf8:
        return _refused(
            "5.6.7 not sent: an address is not ASCII, and the relay does not support SMTPUTF8",
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


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True)
class CommandGroup:
    """Commands that are sent in one write (RFC 2920 section 3.1, "command groups").

    Attributes:
        commands: The bytes to write.
        phases: The phase of the reply to each command, in order.
    """

    commands: bytes
    phases: tuple[Phase, ...]


def transaction_commands(envelope: Envelope, capabilities: Capabilities) -> list[CommandGroup]:
    """Return MAIL, every RCPT and DATA: with PIPELINING in groups of a hundred recipients.

    Without PIPELINING every command is a group of its own. `Envelope` refuses addresses that could
    end a command.

    Args:
        envelope: The sender, the recipients, the size and the delivery status options.
        capabilities: What the relay announced; parameters it does not know are left out.
    """
    mail = f"MAIL FROM:<{envelope.sender}>{_mail_parameters(envelope, capabilities)}\r\n"
    rcpt_end = f">{_rcpt_parameters(envelope, capabilities)}\r\n"
    if capabilities.has_pipelining and len(envelope.recipients) == 1:
        commands = f"{mail}RCPT TO:<{envelope.recipients[0]}{rcpt_end}DATA\r\n"
        return [CommandGroup(commands.encode(), _ONE_RECIPIENT)]
    rcpts = [f"RCPT TO:<{recipient}{rcpt_end}" for recipient in envelope.recipients]
    if capabilities.has_pipelining:
        return list(_pipelined(mail, rcpts))
    phases = [Phase.MAIL, *(Phase.RCPT for _ in rcpts), Phase.DATA]
    single_commands = [mail, *rcpts, "DATA\r\n"]
    return [
        CommandGroup(command.encode(), (phase,))
        for command, phase in zip(single_commands, phases, strict=True)
    ]


def _pipelined(mail: str, rcpts: list[str]) -> Iterator[CommandGroup]:
    for start in range(0, len(rcpts), _RECIPIENTS_PER_GROUP):
        part = rcpts[start : start + _RECIPIENTS_PER_GROUP]
        commands, phases = part, [Phase.RCPT] * len(part)
        if start == 0:
            commands, phases = [mail, *commands], [Phase.MAIL, *phases]
        if start + _RECIPIENTS_PER_GROUP >= len(rcpts):
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
    dsn = envelope.dsn
    if dsn is not None and capabilities.has_dsn:
        if dsn.ret:
            parameters += f" RET={dsn.ret}"
        if dsn.envid:
            parameters += f" ENVID={dsn.envid.translate(_XTEXT).replace(' ', '+20')}"
    return parameters


def _rcpt_parameters(envelope: Envelope, capabilities: Capabilities) -> str:
    dsn = envelope.dsn
    if dsn is None or not dsn.notify or not capabilities.has_dsn:
        return ""
    return f" NOTIFY={','.join(dsn.notify)}"
