"""A copy of what a test has enqueued, in a temporary database of its own.

It can be read and delivered from, whatever the test does with its transactions, and whichever
database driver it uses.
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
    """Create an empty outbox in ``folder``, to be copied for each test; return its file."""
    path = folder / "blank.sqlite"
    engine = worker_engine(f"sqlite:///{path}")
    schema.create(engine)
    engine.dispose()
    return path


class OutboxCopy:
    """Copies of the messages of one database.

    Args:
        blank: An empty outbox; see `blank`.
        path: The file to keep the copies in.
    """

    def __init__(self, blank: Path, path: Path) -> None:
        shutil.copyfile(blank, path)
        self.engine: Engine = worker_engine(f"sqlite:///{path}")
        self.tables: Tables = tables()

    def take(self, connection: Connection, source: Tables, message_id: int) -> None:
        """Copy a message as ``connection`` sees it now, replacing an earlier copy.

        Args:
            connection: The application's connection.
            source: The application's tables.
            message_id: The message.
        """
        recipients = select(source.recipient.c.address_key).where(
            source.recipient.c.message_id == message_id
        )
        attached = select(source.attachment.c.sha256).where(
            source.attachment.c.message_id == message_id
        )
        wanted: tuple[tuple[str, ColumnElement[bool]], ...] = (
            ("message", source.message.c.id == message_id),
            ("blob", source.blob.c.sha256.in_(attached)),
            ("blob_chunk", source.blob_chunk.c.sha256.in_(attached)),
            ("attachment", source.attachment.c.message_id == message_id),
            ("recipient", source.recipient.c.message_id == message_id),
            ("queue", source.queue.c.message_id == message_id),
            ("suppression", source.suppression.c.address_key.in_(recipients)),
        )
        rows = {
            name: [
                dict(row._mapping)
                for row in connection.execute(select(getattr(source, name)).where(fits))
            ]
            for name, fits in wanted
        }
        with write_transaction(self.engine) as target:
            self._forget(target, message_id)
            for name, found in rows.items():
                # A blob never changes; of everything else the latest copy counts.
                verb = "OR IGNORE" if name.startswith("blob") else "OR REPLACE"
                statement = insert(getattr(self.tables, name)).prefix_with(verb)
                for row in found:
                    target.execute(statement, row)

    def take_suppressions(self, connection: Connection, source: Tables) -> None:
        """Copy the suppression list as ``connection`` sees it now.

        Args:
            connection: The application's connection.
            source: The application's tables.
        """
        rows = [dict(row._mapping) for row in connection.execute(select(source.suppression))]
        with write_transaction(self.engine) as target:
            target.execute(delete(self.tables.suppression))
            if rows:
                target.execute(insert(self.tables.suppression), rows)

    def drop(self, message_id: int) -> None:
        """Delete a message whose transaction was rolled back."""
        with write_transaction(self.engine) as target:
            self._forget(target, message_id)

    def hold_back(self, message_id: int) -> None:
        """Do not deliver a message from this copy."""
        queue = self.tables.queue
        with write_transaction(self.engine) as target:
            target.execute(delete(queue).where(queue.c.message_id == message_id))

    def status(self, message_id: int) -> MessageStatus:
        """Return the status of a message in this copy."""
        with read_transaction(self.engine) as connection:
            return queries.status(connection, self.tables, message_id)

    def message(self, message_id: int) -> Any:
        """Return the row of a message."""
        message = self.tables.message
        with read_transaction(self.engine) as connection:
            return connection.execute(select(message).where(message.c.id == message_id)).one()

    def parsed_copy(self, message_id: int, address: str) -> ParsedMail:
        """Return one recipient's copy, as it is sent."""
        open_blob = partial(attachments.read_blob, self.engine, self.tables)
        with read_transaction(self.engine) as connection:
            whose = Address.from_stored(address)
            rendered = rendered_copy(connection, self.tables, message_id, open_blob, whose)
            assert rendered is not None, f"message {message_id} has no recipient {address}"
            return ParsedMail(b"".join(rendered.chunks()))

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def _forget(self, target: Connection, message_id: int) -> None:
        tables = self.tables
        target.execute(delete(tables.queue).where(tables.queue.c.message_id == message_id))
        target.execute(delete(tables.message).where(tables.message.c.id == message_id))
