"""A copy of what a test has enqueued, in a throw-away database of its own.

Whatever the test does with its transactions, and whichever driver it uses, the copy can be read
and delivered from.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, select

from postroom.message.address import Address
from postroom.storage import attachments, queries, schema
from postroom.storage.engine import read_transaction, worker_engine, write_transaction
from postroom.storage.preview import rendered_copy
from postroom.storage.queries import MessageStatus
from postroom.storage.tables import Tables, tables
from postroom.testing.received_mail import ParsedMail


def blank(folder: Path) -> Path:
    """Return an empty outbox in ``folder``, to be copied for each test."""
    path = folder / "blank.sqlite"
    engine = worker_engine(f"sqlite:///{path}")
    schema.create(engine)
    engine.dispose()
    return path


class OutboxCopy:
    """The copies of the messages of one database; ``path`` is where they are kept."""

    def __init__(self, blank: Path, path: Path) -> None:
        shutil.copyfile(blank, path)
        self.engine: Engine = worker_engine(f"sqlite:///{path}")
        self.tables: Tables = tables()

    def take(self, connection: Connection, theirs: Tables, message_id: int) -> None:
        """Copy a message as ``connection`` sees it now, in place of an earlier copy."""
        recipients = select(theirs.recipient.c.address_key).where(
            theirs.recipient.c.message_id == message_id
        )
        attached = select(theirs.attachment.c.sha256).where(
            theirs.attachment.c.message_id == message_id
        )
        wanted: tuple[tuple[str, ColumnElement[bool]], ...] = (
            ("message", theirs.message.c.id == message_id),
            ("blob", theirs.blob.c.sha256.in_(attached)),
            ("blob_chunk", theirs.blob_chunk.c.sha256.in_(attached)),
            ("attachment", theirs.attachment.c.message_id == message_id),
            ("recipient", theirs.recipient.c.message_id == message_id),
            ("queue", theirs.queue.c.message_id == message_id),
            ("suppression", theirs.suppression.c.address_key.in_(recipients)),
        )
        rows = {
            name: [
                dict(row._mapping)
                for row in connection.execute(select(getattr(theirs, name)).where(fits))
            ]
            for name, fits in wanted
        }
        with write_transaction(self.engine) as ours:
            self._forget(ours, message_id)
            for name, found in rows.items():
                # Blobs are the same wherever they are; of the rest the latest counts.
                verb = "OR IGNORE" if name.startswith("blob") else "OR REPLACE"
                statement = insert(getattr(self.tables, name)).prefix_with(verb)
                for row in found:
                    ours.execute(statement, row)

    def take_suppressions(self, connection: Connection, theirs: Tables) -> None:
        """Copy who is not to be written to, as ``connection`` sees it now."""
        rows = [dict(row._mapping) for row in connection.execute(select(theirs.suppression))]
        with write_transaction(self.engine) as ours:
            ours.execute(delete(self.tables.suppression))
            if rows:
                ours.execute(insert(self.tables.suppression), rows)

    def drop(self, message_id: int) -> None:
        """Forget a message whose transaction was rolled back."""
        with write_transaction(self.engine) as ours:
            self._forget(ours, message_id)

    def hold_back(self, message_id: int) -> None:
        """Deliver a message from here no more."""
        queue = self.tables.queue
        with write_transaction(self.engine) as ours:
            ours.execute(delete(queue).where(queue.c.message_id == message_id))

    def status(self, message_id: int) -> MessageStatus:
        """Return how a message stands here."""
        with read_transaction(self.engine) as connection:
            return queries.status(connection, self.tables, message_id)

    def message(self, message_id: int) -> Any:
        """Return the row of a message."""
        message = self.tables.message
        with read_transaction(self.engine) as connection:
            return connection.execute(select(message).where(message.c.id == message_id)).one()

    def letter(self, message_id: int, address: str) -> ParsedMail:
        """Return the copy of ``address``, as it would go over the wire."""
        open_blob = partial(attachments.read_blob, self.engine, self.tables)
        with read_transaction(self.engine) as connection:
            whose = Address.from_stored(address)
            proof = rendered_copy(connection, self.tables, message_id, open_blob, whose)
            assert proof is not None, f"message {message_id} has no recipient {address}"
            return ParsedMail(b"".join(proof.chunks()))

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def _forget(self, ours: Connection, message_id: int) -> None:
        here = self.tables
        ours.execute(delete(here.queue).where(here.queue.c.message_id == message_id))
        ours.execute(delete(here.message).where(here.message.c.id == message_id))
