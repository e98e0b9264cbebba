"""``send``: enqueue a message from the command line or a script.

Typer reads the options from the function's parameters; those of the message are taken by name.
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

#: How long ``--wait`` waits unless ``--timeout`` says otherwise.
_WAIT_TIMEOUT = timedelta(minutes=1)

#: With this many recipients storing takes long enough to show progress.
_SHOW_PROGRESS_FROM = 5_000


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

    Each recipient gets a copy of their own; with --cc or --bcc it is one mail. Nothing is stored if
    anything is wrong. --wait exits with 1 unless every recipient is accepted.
    """
    options, recipients = MessageOptions.of(given.params), RecipientOptions.of(given.params)
    with open_outbox() as ctx:
        receipt = _enqueue(ctx, message_of(options, ctx.settings), recipients, idempotency_key)
        if wait:
            _print_outcomes(_deliver(ctx, receipt.message_id, timeout or _WAIT_TIMEOUT), as_json)
        else:
            _print_receipt(receipt, as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientOptions:
    """The recipients among the options of ``send``."""

    to: Sequence[str | Recipient]
    cc: Sequence[str]
    bcc: Sequence[str]

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Read them from a command's parameters, and from the CSV file if there is one."""
        path, is_templated = options["to_csv"], options["template"] is not None
        listed = read_recipients(path, with_variables=is_templated) if path else []
        return cls(
            to=[*(options["to"] or ()), *listed],
            cc=options["cc"] or (),
            bcc=options["bcc"] or (),
        )


def _enqueue(
    ctx: CommandContext, message: Message, recipients: RecipientOptions, idempotency_key: str | None
) -> Receipt:
    with ctx.writing() as connection, _progress(recipients):
        return ctx.outbox.enqueue(
            connection,
            message,
            to=recipients.to,
            cc=recipients.cc,
            bcc=recipients.bcc,
            idempotency_key=idempotency_key,
        )


def _progress(recipients: RecipientOptions) -> AbstractContextManager[object]:
    """Show progress if there are many recipients."""
    if len(recipients.to) < _SHOW_PROGRESS_FROM:
        return nullcontext()
    return console(stderr=True).status(f"storing {len(recipients.to):,} recipients")


def _print_receipt(receipt: Receipt, as_json: bool) -> None:
    if as_json:
        print_json(receipt)
    elif receipt.is_new:
        echo(f"message {receipt.message_id} enqueued for {_counted(len(receipt.recipients))}")
    else:
        key = receipt.idempotency_key
        echo(f"the idempotency key {key} belongs to message {receipt.message_id} already")


def _counted(count: int) -> str:
    return "1 recipient" if count == 1 else f"{count:,} recipients"


def _print_outcomes(message: MessageStatus, as_json: bool) -> None:
    if as_json:
        print_json(message)
    else:
        echo(f"message {message.id}: {message.state}")
        echo(_outcomes(message))
    if any(one.state is not RecipientState.ACCEPTED for one in message.recipients):
        raise typer.Exit(ExitCode.FAILED)


def _deliver(ctx: CommandContext, message_id: int, timeout: timedelta) -> MessageStatus:
    """Deliver from this process; return the status of ``message_id`` at the end.

    Other mail that is due is sent as well; other workers may run at the same time.
    """
    with Session(ctx.engine) as session:
        return ctx.outbox.deliver(session, message_id, timeout_s=timeout.total_seconds())


def _outcomes(message: MessageStatus) -> Table:
    """Return a table with state and reply of each recipient."""
    rows = ((one.address, one.state, one.reply) for one in message.recipients)
    return grid(["recipient", "state", "reply"], rows)
