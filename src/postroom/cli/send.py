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

from postroom.cli import send_options as option
from postroom.cli.composition import Wish, message_of
from postroom.cli.errors import ExitCode
from postroom.cli.mailing import read_mailing
from postroom.cli.opening import Opened, opened
from postroom.cli.options import AsJson
from postroom.cli.output import console, print_json, say
from postroom.cli.waiting import delivered, outcomes
from postroom.storage.order import Receipt
from postroom.storage.queries import MessageStatus
from postroom.values.message import Message, Recipient
from postroom.values.states import Lane, RecipientState

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
    key: option.Key = None,
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
    wish, audience = Wish.of(given.params), Audience.of(given.params)
    with opened() as desk:
        receipt = _enqueued(desk, message_of(wish, desk.settings), audience, key)
        if wait:
            _report(delivered(desk, receipt.message_id, timeout or _PATIENCE), as_json)
        else:
            _acknowledge(receipt, as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """To whom."""

    to: Sequence[str | Recipient]
    cc: Sequence[str]
    bcc: Sequence[str]

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Read them from a command's options, and from the file that one of them names."""
        path, is_templated = options["to_csv"], options["template"] is not None
        listed = read_mailing(path, with_variables=is_templated) if path else []
        return cls(
            to=[*(options["to"] or ()), *listed],
            cc=options["cc"] or (),
            bcc=options["bcc"] or (),
        )


def _enqueued(desk: Opened, message: Message, audience: Audience, key: str | None) -> Receipt:
    with desk.writing() as connection, _patience_asked_for(audience):
        return desk.outbox.enqueue(
            connection, message, to=audience.to, cc=audience.cc, bcc=audience.bcc, key=key
        )


def _patience_asked_for(audience: Audience) -> AbstractContextManager[object]:
    """Show that something goes on where it takes longer than a moment."""
    if len(audience.to) < _MANY:
        return nullcontext()
    return console(stderr=True).status(f"storing {len(audience.to):,} recipients")


def _acknowledge(receipt: Receipt, as_json: bool) -> None:
    if as_json:
        print_json(receipt)
    elif receipt.is_new:
        say(f"message {receipt.message_id} enqueued for {_people(len(receipt.recipients))}")
    else:
        say(f"message {receipt.message_id} stands already under the key {receipt.key}")


def _people(count: int) -> str:
    return "1 recipient" if count == 1 else f"{count:,} recipients"


def _report(message: MessageStatus, as_json: bool) -> None:
    if as_json:
        print_json(message)
    else:
        say(f"message {message.id}: {message.state}")
        say(outcomes(message))
    if any(one.state is not RecipientState.ACCEPTED for one in message.recipients):
        raise typer.Exit(ExitCode.FAILED)
