"""``list``, ``show`` and ``explain``: what became of the mail."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from postroom.cli.opening import opened
from postroom.cli.options import AsJson, MessageId
from postroom.cli.output import brief, clean, grid, pairs, print_json, say
from postroom.storage.queries import AttemptRecord, MessageStatus, Search
from postroom.values.states import Lane, RecipientState


def list_messages(
    state: Annotated[
        RecipientState | None, typer.Option(help="With a recipient in this state.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="To this address.")] = None,
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None,
    lane: Annotated[Lane | None, typer.Option(help="In this lane.")] = None,
    key: Annotated[str | None, typer.Option(help="With this key.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    before: Annotated[
        int | None, typer.Option(metavar="ID", help="Only messages older than this one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List messages, the newest first."""
    search = Search(
        state=state, address=address, tag=tag, lane=lane, key=key, limit=limit, before_id=before
    )
    with opened() as desk, desk.reading() as connection:
        found = desk.outbox.search(connection, search)
    if as_json:
        print_json(found)
        return
    rows = [(m.id, m.created_at, m.state, m.recipients, m.subject) for m in found]
    if not rows:
        say("no message")
        return
    say(grid(["id", "enqueued", "state", ">recipients", "subject"], rows))


def show(
    message_id: MessageId,
    transcript: Annotated[
        bool, typer.Option("--transcript", help="With the conversations that failed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one message: its recipients, every attempt, and what the relay replied."""
    with opened() as desk, desk.reading() as connection:
        message = desk.outbox.status(connection, message_id)
        attempts = desk.outbox.attempts(connection, message_id)
    if as_json:
        print_json({"message": message, "attempts": attempts})
        return
    say(_head(message))
    say()
    say(_recipients(message))
    if attempts:
        say()
        say(_attempts(attempts))
    if transcript:
        _transcripts(attempts)


def explain(message_id: MessageId, as_json: AsJson = False) -> None:
    """Say for each recipient why its mail has not gone, and when it will."""
    with opened() as desk, desk.reading() as connection:
        reasons = desk.outbox.explain(connection, message_id)
    if as_json:
        print_json(reasons)
        return
    rows = ((one.address, one.state, one.why, one.next_at) for one in reasons)
    say(grid(["recipient", "state", "why", "next"], rows))


def _head(message: MessageStatus) -> Table:
    facts = {
        "message": message.id,
        "key": message.key,
        "subject": message.subject,
        "from": message.sender,
        "lane": message.lane,
        "tags": ", ".join(message.tags),
        "enqueued": message.created_at,
        "not before": message.not_before,
        "expires": message.expires_at,
        "state": message.state,
    }
    return pairs(facts)


def _recipients(message: MessageStatus) -> Table:
    rows = (
        (one.address, one.state, one.attempts, one.due_at, one.reply) for one in message.recipients
    )
    return grid(["recipient", "state", ">tries", "next", "reply"], rows)


def _attempts(attempts: tuple[AttemptRecord, ...]) -> Table:
    rows = (
        (brief(one.at), one.address, one.relay, one.phase, one.outcome, one.reply)
        for one in attempts
    )
    return grid(["attempt", "recipient", "relay", "phase", "outcome", "reply"], rows)


def _transcripts(attempts: tuple[AttemptRecord, ...]) -> None:
    for attempt in attempts:
        if attempt.transcript:
            say(f"\n{attempt.address}, {attempt.phase}:\n{clean(attempt.transcript)}")
