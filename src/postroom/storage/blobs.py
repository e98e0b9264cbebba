"""The bytes of attachments, kept once however many messages carry them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import count
from typing import Any

from sqlalchemy import Connection, Engine, insert, select

from postroom.storage.models import Tables
from postroom.storage.spool import Spooled
from postroom.storage.upsert import upsert

#: Chunks in one statement, both ways: a megabyte at a time.
_CHUNKS_A_STATEMENT = 4


def store(connection: Connection, tables: Tables, files: Sequence[Spooled], at: datetime) -> None:
    """Store the bytes of ``files`` that are not there yet, in the caller's transaction.

    Where another transaction is storing the same bytes, this waits for its end. (Two that store
    the same two new files in two enqueues each, the other way round, wait for each other: the
    database ends one of them with a deadlock error, to be tried again.) What is there already is
    held against `prune` until the caller's transaction ends.
    """
    left = {file.sha256: file for file in files}
    while left:
        fresh = _claim_names(connection, tables, left, at)
        for sha256 in fresh:
            _store_chunks(connection, tables, left[sha256])
        kept = _hold(connection, tables, left.keys() - fresh)
        # Whatever was neither new nor held has been pruned in between: store it again.
        left = {name: file for name, file in left.items() if name not in fresh | kept}


def _claim_names(
    connection: Connection, tables: Tables, files: dict[str, Spooled], at: datetime
) -> set[str]:
    """Insert the rows of blobs that are new; return their names."""
    # In one order everywhere, so that two transactions do not wait for each other.
    rows = [
        {"sha256": name, "size_bytes": files[name].part.size_bytes, "created_at": at}
        for name in sorted(files)
    ]
    statement = upsert(connection, tables.blob).on_conflict_do_nothing().values(rows)
    return set(connection.scalars(statement.returning(tables.blob.c.sha256)))


def _hold(connection: Connection, tables: Tables, names: set[str]) -> set[str]:
    """Return which of ``names`` are there, and stay there until the transaction ends."""
    if not names or connection.dialect.name == "sqlite":
        return names  # SQLite has one writer: nobody can prune meanwhile
    wanted = select(tables.blob.c.sha256).where(tables.blob.c.sha256.in_(sorted(names)))
    return set(connection.scalars(wanted.with_for_update(read=True, key_share=True)))


def _store_chunks(connection: Connection, tables: Tables, file: Spooled) -> None:
    rows: list[dict[str, Any]] = []
    for position, chunk in enumerate(file.part.open()):
        rows.append({"sha256": file.sha256, "position": position, "data": chunk})
        if len(rows) == _CHUNKS_A_STATEMENT:
            connection.execute(insert(tables.blob_chunk), rows)
            rows = []
    if rows:
        connection.execute(insert(tables.blob_chunk), rows)


def read(engine: Engine, tables: Tables, sha256: str) -> Iterator[bytes]:
    """Yield the bytes of a blob in chunks of at most 256 KiB; nothing where there is none.

    Each few chunks are a short transaction: none stays open while the caller is busy with them.
    """
    chunk = tables.blob_chunk
    for first in count(0, _CHUNKS_A_STATEMENT):
        wanted = (
            select(chunk.c.data)
            .where(chunk.c.sha256 == sha256)
            .where(chunk.c.position.between(first, first + _CHUNKS_A_STATEMENT - 1))
            .order_by(chunk.c.position)
        )
        with engine.connect() as connection:
            found = connection.scalars(wanted).all()
        yield from found
        if len(found) < _CHUNKS_A_STATEMENT:
            return
