"""A message's content in the tables: a draft written down, and read back for a worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, select

from postroom.errors import AttachmentError
from postroom.message.address import Address
from postroom.message.attachment import Disposition
from postroom.message.envelope import DsnOptions
from postroom.message.message import Draft, StoredAttachment
from postroom.message.templates import FrozenTemplate
from postroom.message.validation import checked_delays
from postroom.states import Lane, OnDoubt, RecipientType
from postroom.storage.data_errors import piecewise, reason_of
from postroom.storage.json_variables import loaded
from postroom.storage.recipients import ResolvedRecipient
from postroom.storage.tables import PREFIX, Tables

#: Opens a blob by its SHA-256; see `postroom.storage.attachments.read`.
OpenBlob = Callable[[str], Iterator[bytes]]

#: Bound values in one statement; SQLite and asyncpg stop at about 32,000.
_IDS_A_SELECT = 10_000

#: Columns that have done their part at enqueue, or are for people.
_NOT_FOR_WORKERS = {"idempotency_key", "content_hash", "scheduled_at", "tags"}

#: What a key stands for; the rest says when and how it goes out, or is new each time.
_ASKED = {
    *("sender", "envelope_sender", "reply_to", "subject", "text", "html", "templates", "headers"),
    *("shared", "dsn"),
}

#: What `Address` reads in a name only between quotes.


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message as a worker needs it. ``envelope_sender`` is empty for the null reverse-path."""

    id: int
    draft: Draft
    envelope_sender: str
    lane: Lane
    relay: str | None
    shared: bool
    on_doubt: OnDoubt
    expires_at: datetime | None
    retry_delays_s: tuple[float, ...] | None
    dsn: DsnOptions | None


def message_row(draft: Draft) -> dict[str, Any]:
    """Return the columns of ``message`` that hold ``draft``; attachments have rows of their own."""
    bodies = {"subject": draft.subject, "text": draft.text, "html": draft.html}
    templates = {
        name: body.to_json() for name, body in bodies.items() if isinstance(body, FrozenTemplate)
    }
    literal = {name: body if isinstance(body, str) else None for name, body in bodies.items()}
    return literal | {
        "message_id_seed": draft.message_id_seed,
        "created_at": draft.date,
        "sender": str(draft.sender),
        "templates": templates or None,
        "headers": [list(pair) for pair in draft.headers] or None,
        "reply_to": list(map(str, draft.reply_to)) or None,
        "shared": draft.shared,
    }


def content_hash(
    stored: Mapping[str, Any],
    files: Iterable[Mapping[str, Any]],
    asked: Iterable[ResolvedRecipient],
    queries: Iterable[str] = (),
) -> str:
    """Return the SHA-256 of what was asked: content, attachments and recipients.

    When, how fast and over which relay it goes out is left out, and so are token and date. The
    order of recipients means nothing; nor does naming one twice. A query counts as it was asked,
    not by what it finds.
    """
    # Without what is not set: a column added by a later version changes no hash.
    what = {name: value for name, value in stored.items() if name in _ASKED and value is not None}
    people = sorted({_asked(one) for one in asked} | {f"query\n{one}" for one in queries})
    return _sha256(_canonical([what, list(files), people]))


def _asked(one: ResolvedRecipient) -> str:
    """Return what was asked for: a user stays the same user when their address changes."""
    who = (
        (f"{one.dedup_key}\n{one.address.name}")
        if one.user_ref is None
        else f"user\n{one.user_ref}"
    )
    variables = loaded(one.variables)
    # Hashed at once: what all of them bring together may be more than fits into memory.
    brought = "" if variables is None else _sha256(_canonical(variables))
    return f"{one.type}\n{who}\n{brought}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


#: Senders repeat from message to message.
_parsed = lru_cache(maxsize=1024)(Address)


def load_messages(
    connection: Connection, tables: Tables, message_ids: Sequence[int], open_blob: OpenBlob
) -> dict[int, StoredMessage]:
    """Return the messages of ``message_ids`` that exist, by id.

    One SELECT; one more where there are attachments, and one where messages are sent together.
    (For each 10,000 ids.) Attachments are not read before their parts are opened.
    """
    found: dict[int, StoredMessage] = {}
    for start in range(0, len(message_ids), _IDS_A_SELECT):
        some = list(message_ids[start : start + _IDS_A_SELECT])
        found |= _load(connection, tables, some, open_blob)
    return found


def _load(
    connection: Connection, tables: Tables, ids: list[int], open_blob: OpenBlob
) -> dict[int, StoredMessage]:
    rows = connection.execute(_messages(tables).where(tables.message.c.id.in_(ids))).all()
    with_files = [row.id for row in rows if row.has_attachments]
    parts = _parts(connection, tables, with_files, open_blob) if with_files else {}
    shared = [row.id for row in rows if row.shared]
    visible = _visible(connection, tables, shared) if shared else {}
    return {
        row.id: _stored(row, tuple(parts.get(row.id, ())), visible.get(row.id, ())) for row in rows
    }


def _messages(tables: Tables) -> Select[Any]:
    message, attachment = tables.message, tables.attachment
    has_attachments = select(attachment.c.position).where(attachment.c.message_id == message.c.id)
    return select(
        *(column for column in message.c if column.name not in _NOT_FOR_WORKERS),
        has_attachments.exists().label("has_attachments"),
    )


def complaint(connection: Connection, tables: Tables, message_id: int, error: Exception) -> str:
    """Say why `load` fails with ``error`` for a message: which column cannot be read, or what else.

    Every column is looked at by itself, each under a savepoint of the caller's transaction.
    """
    message, attachment = tables.message, tables.attachment
    found: list[str] = []
    for table, of_message in ((message, message.c.id), (attachment, attachment.c.message_id)):
        mine = of_message == message_id

        def read(columns: Sequence[Column[Any]], mine: ColumnElement[bool] = mine) -> None:
            connection.execute(select(*columns).where(mine)).all()

        def note(column: Column[Any], error: Exception) -> None:
            name = column.table.name.removeprefix(PREFIX)
            found.append(f"{name}.{column.name} cannot be read ({reason_of(error)})")

        piecewise(connection, list(table.c), read, note)
    return "; ".join(found) or f"the stored message cannot be read ({reason_of(error)})"


def _parts(
    connection: Connection, tables: Tables, ids: list[int], open_blob: OpenBlob
) -> dict[int, list[StoredAttachment]]:
    attachment = tables.attachment
    found: dict[int, list[StoredAttachment]] = {}
    for row in connection.execute(
        select(attachment)
        .where(attachment.c.message_id.in_(ids))
        .order_by(attachment.c.message_id, attachment.c.position)
    ):
        part = StoredAttachment(
            filename=row.filename,
            content_type=row.content_type,
            disposition=Disposition(row.disposition),
            content_id=row.content_id,
            size_bytes=row.size_bytes,
            open=partial(_whole, open_blob, row.sha256, row.size_bytes),
        )
        found.setdefault(row.message_id, []).append(part)
    return found


def _whole(open_blob: OpenBlob, sha256: str, size_bytes: int) -> Iterator[bytes]:
    """Yield a blob, and never pass off a part of it as the whole."""
    left = size_bytes
    for chunk in open_blob(sha256):
        left -= len(chunk)
        yield chunk
    if left:
        raise AttachmentError(
            f"expected the stored attachment {sha256} to be {size_bytes} bytes, "
            f"got: {size_bytes - left}; was it deleted by hand?"
        )


def _visible(
    connection: Connection, tables: Tables, ids: list[int]
) -> dict[int, list[tuple[str, Address]]]:
    """Return kind and address of everyone whom To and Cc name, in the order they were given."""
    recipient = tables.recipient
    found: dict[int, list[tuple[str, Address]]] = {}
    for row in connection.execute(
        select(recipient.c.message_id, recipient.c.type, recipient.c.address, recipient.c.name)
        .where(
            recipient.c.message_id.in_(ids),
            recipient.c.type.in_((RecipientType.TO, RecipientType.CC)),
        )
        .order_by(recipient.c.message_id, recipient.c.id)
    ):
        local, _, domain = row.address.rpartition("@")
        address = Address.from_parts(local=local, domain=domain, name=row.name)
        found.setdefault(row.message_id, []).append((row.type, address))
    return found


def _stored(
    row: Row[Any], parts: tuple[StoredAttachment, ...], visible: Sequence[tuple[str, Address]]
) -> StoredMessage:
    draft = _draft(row, parts, visible)
    return StoredMessage(
        id=row.id,
        draft=draft,
        envelope_sender=(
            draft.sender.envelope if row.envelope_sender is None else row.envelope_sender
        ),
        lane=Lane(row.lane),
        relay=row.relay,
        shared=row.shared,
        on_doubt=OnDoubt(row.on_doubt),
        expires_at=row.expires_at,
        retry_delays_s=checked_delays(row.retry_delays_s),
        dsn=None if row.dsn is None else _notice(row.dsn),
    )


def _draft(
    row: Row[Any], parts: tuple[StoredAttachment, ...], visible: Sequence[tuple[str, Address]]
) -> Draft:
    frozen = row.templates or {}
    sources = {name: FrozenTemplate.from_json(stored) for name, stored in frozen.items()}
    return Draft(
        message_id_seed=row.message_id_seed,
        date=row.created_at,
        sender=_parsed(row.sender),
        subject=sources.get("subject") or row.subject,
        text=sources.get("text", row.text),
        html=sources.get("html", row.html),
        headers=tuple((name, value) for name, value in row.headers or ()),
        reply_to=tuple(map(_parsed, row.reply_to or ())),
        to=tuple(address for kind, address in visible if kind == RecipientType.TO),
        cc=tuple(address for kind, address in visible if kind == RecipientType.CC),
        shared=row.shared,
        attachments=parts,
    )


def _notice(stored: Mapping[str, Any]) -> DsnOptions:
    return DsnOptions(notify=tuple(stored["notify"]), ret=stored["ret"], envid=stored["envid"])
