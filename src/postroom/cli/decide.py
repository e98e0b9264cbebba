"""``retry``, ``cancel`` and ``resolve``: what a person decides about one message."""

from __future__ import annotations

from typing import Annotated

import typer

from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.opening import opened
from postroom.cli.options import Addresses, AsJson, MessageId
from postroom.cli.output import print_json, say


def retry(message_id: MessageId, to: Addresses = None, as_json: AsJson = False) -> None:
    """Try again now: recipients that were rejected, deferred, cancelled, expired or suppressed.

    A recipient that a relay accepted is never sent to again. Leaves with 5 where there was none
    to try again.
    """
    with opened() as desk, desk.writing() as connection:
        again = desk.outbox.requeue(connection, message_id, to)
    if not again:
        raise _nothing_to(f"message {message_id} has no such recipient to try again", message_id)
    _tell("will be tried again", again, as_json)


def cancel(message_id: MessageId, as_json: AsJson = False) -> None:
    """Stop a message for every recipient whose mail is not on the wire yet.

    Leaves with 5 where it is too late for any of them, and says for whom.
    """
    with opened() as desk, desk.writing() as connection:
        done = desk.outbox.cancel(connection, message_id)
    if not done.cancelled and not done.too_late:
        raise _nothing_to(f"message {message_id} has nothing left to cancel", message_id)
    if as_json:
        print_json(done)
    else:
        for address in done.cancelled:
            say(f"{address}: cancelled")
        for address in done.too_late:
            say(f"{address}: too late")
    if done.too_late:
        raise typer.Exit(ExitCode.TOO_LATE)


def resolve(
    message_id: MessageId,
    sent: Annotated[
        bool | None,
        typer.Option("--sent/--resend", help="The relay has the mail / send it (again)."),
    ] = None,
    to: Addresses = None,
    as_json: AsJson = False,
) -> None:
    """Decide for recipients in doubt: the connection broke after the final dot, before its reply.

    The relay's own log knows whether it took the mail: look for the Message-ID, which
    `postroom preview ID --to ADDRESS` prints.
    """
    if sent is None:
        raise typer.BadParameter("say --sent or --resend")
    with opened() as desk, desk.writing() as connection:
        settled = desk.outbox.resolve(connection, message_id, sent=sent, addresses=to)
    if not settled:
        raise _nothing_to(f"message {message_id} has no such recipient in doubt", message_id)
    _tell("accepted" if sent else "will be sent again", settled, as_json)


def _nothing_to(text: str, message_id: int) -> CommandError:
    return CommandError(
        f"{text}:\n`postroom show {message_id}` says where each one stands", ExitCode.TOO_LATE
    )


def _tell(what: str, addresses: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json({"recipients": addresses})
        return
    for address in addresses:
        say(f"{address}: {what}")
