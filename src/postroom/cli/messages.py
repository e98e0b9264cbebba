"""``search``, ``status`` and ``explain`` look at messages; ``retry`` and the like change them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from postroom.cli.context import open_outbox
from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.options import Addresses, AsJson, MessageId
from postroom.cli.output import echo, grid, pairs, print_json, short_time
from postroom.states import Lane, RecipientState
from postroom.storage.queries import Attempt, MessageStatus
from postroom.text import safe_for_terminal


def retry(message_id: MessageId, to: Addresses = None, as_json: AsJson = False) -> None:
    """Send a message again, now, to recipients that were not accepted.

    That is: rejected, deferred, cancelled, expired or suppressed. A recipient that a relay
    accepted is never sent to again. Exits with 5 if there is no such recipient.
    """
    with open_outbox() as context, context.writing() as connection:
        again = context.outbox.retry(connection, message_id, to)
    if not again:
        raise _nothing_to(f"message {message_id} has no such recipient to try again", message_id)
    _tell("will be tried again", again, as_json)


def cancel(message_id: MessageId, as_json: AsJson = False) -> None:
    """Cancel a message for every recipient that is not being sent to already.

    Exits with 5 if it is too late for some of them, and says for whom.
    """
    with open_outbox() as context, context.writing() as connection:
        done = context.outbox.cancel(connection, message_id)
    if not done.cancelled and not done.too_late:
        raise _nothing_to(f"message {message_id} has nothing left to cancel", message_id)
    if as_json:
        print_json(done)
    else:
        for address in done.cancelled:
            echo(f"{address}: cancelled")
        for address in done.too_late:
            echo(f"{address}: too late")
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
    """Decide what happens to recipients in doubt.

    Their connection broke after the final dot and before its reply.

    The relay's own log knows whether it took the mail: look for the Message-ID, which `postroom
    preview ID --to ADDRESS` prints.
    """
    if sent is None:
        raise typer.BadParameter("say --sent or --resend")
    with open_outbox() as context, context.writing() as connection:
        settled = context.outbox.resolve(connection, message_id, sent=sent, addresses=to)
    if not settled:
        raise _nothing_to(f"message {message_id} has no such recipient in doubt", message_id)
    _tell("accepted" if sent else "will be sent again", settled, as_json)


def _nothing_to(text: str, message_id: int) -> CommandError:
    return CommandError(
        f"{text}:\n`postroom status {message_id}` says where each one stands", ExitCode.TOO_LATE
    )


def _tell(what: str, addresses: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json({"recipients": addresses})
        return
    for address in addresses:
        echo(f"{address}: {what}")


def search(
    state: Annotated[
        RecipientState | None, typer.Option(help="With a recipient in this state.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="To this address.")] = None,
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None,
    lane: Annotated[Lane | None, typer.Option(help="In this lane.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="With this key.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most messages to show.")] = 50,
    before_id: Annotated[
        int | None, typer.Option(metavar="ID", help="Only messages older than this one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search for messages, and list them newest first."""
    with open_outbox() as context, context.reading() as connection:
        found = context.outbox.search(
            connection,
            state=state,
            address=address,
            tag=tag,
            lane=lane,
            idempotency_key=idempotency_key,
            limit=limit,
            before_id=before_id,
        )
    if as_json:
        print_json(found)
        return
    rows = [(m.id, m.created_at, m.state, m.recipients, m.subject) for m in found]
    if not rows:
        echo("no message")
        return
    echo(grid(["id", "created_at", "state", ">recipients", "subject"], rows))


def status(
    message_id: MessageId,
    transcript: Annotated[
        bool, typer.Option("--transcript", help="Show the conversations that failed as well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one message: the state of each recipient, every attempt, and what the relay replied.

    For the outbox as a whole there is `postroom stats`.
    """
    with open_outbox() as context, context.reading() as connection:
        message = context.outbox.status(connection, message_id)
        attempts = context.outbox.attempts(connection, message_id)
    if as_json:
        print_json({"message": message, "attempts": attempts})
        return
    echo(_head(message))
    echo()
    echo(_recipients(message))
    if attempts:
        echo()
        echo(_attempts(attempts))
    if transcript:
        _transcripts(attempts)


def explain(message_id: MessageId, as_json: AsJson = False) -> None:
    """Say for each recipient why its mail has not been sent, and when it will be."""
    with open_outbox() as context, context.reading() as connection:
        reasons = context.outbox.explain(connection, message_id)
    if as_json:
        print_json(reasons)
        return
    rows = ((one.address, one.state, one.why, one.next_at) for one in reasons)
    echo(grid(["address", "state", "why", "next_at"], rows))


def _head(message: MessageStatus) -> Table:
    facts = {
        "id": message.id,
        "idempotency_key": message.idempotency_key,
        "subject": message.subject,
        "sender": message.sender,
        "lane": message.lane,
        "tags": ", ".join(message.tags),
        "created_at": message.created_at,
        "scheduled_at": message.scheduled_at,
        "expires_at": message.expires_at,
        "state": message.state,
    }
    return pairs(facts)


def _recipients(message: MessageStatus) -> Table:
    rows = (
        (one.address, one.state, one.attempt_count, one.due_at, one.reply)
        for one in message.recipients
    )
    return grid(["address", "state", ">attempt_count", "due_at", "reply"], rows)


def _attempts(attempts: tuple[Attempt, ...]) -> Table:
    rows = (
        (short_time(one.attempted_at), one.address, one.relay, one.phase, one.outcome, one.reply)
        for one in attempts
    )
    return grid(["attempted_at", "address", "relay", "phase", "outcome", "reply"], rows)


def _transcripts(attempts: tuple[Attempt, ...]) -> None:
    for attempt in attempts:
        if attempt.transcript:
            echo(f"\n{attempt.address}, {attempt.phase}:\n{safe_for_terminal(attempt.transcript)}")
