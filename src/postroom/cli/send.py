"""``send``: a message from a person or a script.

Typer reads the options off the function's parameters; those of the message are taken up by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import typer
from rich.table import Table
from sqlalchemy.orm import Session

from postroom.cli import message_options as option
from postroom.cli.context import CommandContext, open_outbox
from postroom.cli.csv_recipients import read_recipients
from postroom.cli.errors import ExitCode
from postroom.cli.message_options import MessageOptions, message_of
from postroom.cli.options import AsJson
from postroom.cli.output import console, echo, grid, print_json
from postroom.message.message import Message, Recipient
from postroom.states import Lane, RecipientState
from postroom.storage.enqueue_request import Receipt
from postroom.storage.queries import MessageStatus


def delivered(opened: CommandContext, message_id: int, timeout: timedelta) -> MessageStatus:
    """Deliver from this process and return how ``message_id`` stands at the end.

    Other mail that is due goes out as well, as from any worker; this one need not be the only.
    """
    with Session(opened.engine) as session:
        return opened.outbox.deliver(session, message_id, timeout_s=timeout.total_seconds())


def outcomes(message: MessageStatus) -> Table:
    """Return a line for each recipient: where it stands and what the relay said."""
    rows = ((one.address, one.state, one.reply) for one in message.recipients)
    return grid(["recipient", "state", "reply"], rows)


#: How long ``--wait`` waits where nothing else is said.
_PATIENCE = timedelta(minutes=1)

#: From so many recipients on a person wants to see that something happens.
_MANY = 5_000


def send(
    given: typer.Context,
    to: option.To = None,
    to_csv: option.ToCsv = None,
    cc: option.Cc = None,
    bcc: option.Bcc = None,
    sender: option.Sender = None,
    reply_to: option.ReplyTo = None,
    subject: option.Subject = "",
    text: option.Text = None,
    text_file: option.TextFile = None,
    html: option.Html = None,
    html_file: option.HtmlFile = None,
    template: option.Template = None,
    context: option.Context = None,
    locale: option.Locale = None,
    attach: option.Attach = None,
    inline: option.Inline = None,
    idempotency_key: option.IdempotencyKey = None,
    lane: option.LaneChoice = Lane.NORMAL,
    relay: option.RelayName = None,
    at: option.At = None,
    expires: option.Expires = None,
    tag: option.Tag = None,
    wait: option.Wait = False,
    timeout: option.Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Enqueue a message; a worker delivers it, or --wait does.

    Each recipient gets a copy of their own; with --cc or --bcc it is one mail. Nothing is stored
    where anything about it is wrong. --wait leaves with 1 unless every recipient is accepted.
    """
    wish, audience = MessageOptions.of(given.params), RecipientOptions.of(given.params)
    with open_outbox() as opened:
        receipt = _enqueued(opened, message_of(wish, opened.settings), audience, idempotency_key)
        if wait:
            _report(delivered(opened, receipt.message_id, timeout or _PATIENCE), as_json)
        else:
            _acknowledge(receipt, as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientOptions:
    """To whom."""

    to: Sequence[str | Recipient]
    cc: Sequence[str]
    bcc: Sequence[str]

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Read them from a command's options, and from the file that one of them names."""
        path, is_templated = options["to_csv"], options["template"] is not None
        listed = read_recipients(path, with_variables=is_templated) if path else []
        return cls(
            to=[*(options["to"] or ()), *listed],
            cc=options["cc"] or (),
            bcc=options["bcc"] or (),
        )


def _enqueued(
    opened: CommandContext,
    message: Message,
    audience: RecipientOptions,
    idempotency_key: str | None,
) -> Receipt:
    with opened.writing() as connection, _patience_asked_for(audience):
        return opened.outbox.enqueue(
            connection,
            message,
            to=audience.to,
            cc=audience.cc,
            bcc=audience.bcc,
            idempotency_key=idempotency_key,
        )


def _patience_asked_for(audience: RecipientOptions) -> AbstractContextManager[object]:
    """Show that something goes on where it takes longer than a moment."""
    if len(audience.to) < _MANY:
        return nullcontext()
    return console(stderr=True).status(f"storing {len(audience.to):,} recipients")


def _acknowledge(receipt: Receipt, as_json: bool) -> None:
    if as_json:
        print_json(receipt)
    elif receipt.is_new:
        echo(f"message {receipt.message_id} enqueued for {_people(len(receipt.recipients))}")
    else:
        key = receipt.idempotency_key
        echo(f"the idempotency key {key} belongs to message {receipt.message_id} already")


def _people(count: int) -> str:
    return "1 recipient" if count == 1 else f"{count:,} recipients"


def _report(message: MessageStatus, as_json: bool) -> None:
    if as_json:
        print_json(message)
    else:
        echo(f"message {message.id}: {message.state}")
        echo(outcomes(message))
    if any(one.state is not RecipientState.ACCEPTED for one in message.recipients):
        raise typer.Exit(ExitCode.FAILED)
