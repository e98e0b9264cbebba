"""Attachments read once, into temporary files, before anything is stored.

Reading decides what travels: the bytes, their hash, their media type. A file that changes
meanwhile, or is too large, is refused here, while there is nothing to undo.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from inspect import isawaitable
from itertools import count
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO

from sqlalchemy import Connection, Engine, insert, select

from postroom.errors import AttachmentError, MessageTooLarge
from postroom.message.attachment import Attachment
from postroom.message.content_source import (
    BytesSource,
    ChunkSource,
    FileSource,
    PathSource,
    WriterSource,
)
from postroom.message.media_type import SNIFFED_BYTES, media_type_of_bytes
from postroom.message.message import StoredAttachment
from postroom.storage.tables import CHUNK_BYTES, Tables
from postroom.storage.upsert import upsert

#: What is no larger than this never touches the disk.
IN_MEMORY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SpooledAttachment:
    """An attachment that has been read. Its file lasts as long as the `spooled` block."""

    part: StoredAttachment
    sha256: str


@contextmanager
def spool(
    attachments: Sequence[Attachment], max_bytes: int
) -> Iterator[tuple[SpooledAttachment, ...]]:
    """Read ``attachments`` one after the other; together, encoded, they fit into ``max_bytes``.

    Raises:
        AttachmentError: one is missing, unreadable, or changed while it was read.
        MessageTooLarge: they do not fit.
    """
    with ExitStack() as files:
        read: list[SpooledAttachment] = []
        room = _unencoded_bytes(max_bytes)
        for attachment in attachments:
            spool = files.enter_context(_Spool(attachment.filename, room, max_bytes))
            read.append(_read(attachment, spool))
            room -= read[-1].part.size_bytes
        yield tuple(read)


def encoded_size_bytes(size_bytes: int) -> int:
    """Return what ``size_bytes`` come to in base64, in lines of 76 characters and CRLF."""
    characters = -(-size_bytes // 3) * 4
    return characters + 2 * -(-characters // 76)


def _unencoded_bytes(room: int) -> int:
    """Return how much of an attachment fits into ``room`` when encoded."""
    return max(room, 0) * 76 // 78 * 3 // 4


class _Spool(SpooledTemporaryFile[bytes]):
    """A temporary file that takes so much and no more."""

    def __init__(self, filename: str, room: int, max_bytes: int) -> None:
        super().__init__(max_size=IN_MEMORY_BYTES, prefix="postroom-")
        self._filename = filename
        self._room = room
        self._max_bytes = max_bytes

    def write(self, s: Any) -> int:
        if self.tell() + len(s) > self._room:
            raise MessageTooLarge(
                f"expected the message to be at most {self._max_bytes:,} bytes when encoded "
                f"(max_message_bytes), got: more, with attachment {self._filename!r}"
            )
        return super().write(s)

    def chunks(self) -> Iterator[bytes]:
        position = 0
        while True:
            self.seek(position)
            chunk = self.read(CHUNK_BYTES)
            if not chunk:
                return
            position += len(chunk)
            yield chunk


def _read(attachment: Attachment, spool: _Spool) -> SpooledAttachment:
    _fill(spool, attachment)
    digest, size_bytes, start = hashlib.sha256(), 0, b""
    for chunk in spool.chunks():
        digest.update(chunk)
        size_bytes += len(chunk)
        start = start or chunk[:SNIFFED_BYTES]
    part = StoredAttachment(
        filename=attachment.filename,
        content_type=attachment.content_type or media_type_of_bytes(start),
        disposition=attachment.disposition,
        content_id=attachment.content_id,
        size_bytes=size_bytes,
        open=spool.chunks,
    )
    return SpooledAttachment(part, digest.hexdigest())


def _fill(spool: _Spool, attachment: Attachment) -> None:
    match attachment.source:
        case PathSource(path):
            _copy_path(path, spool)
        case BytesSource(content):
            spool.write(content)
        case FileSource(file):
            _copy_file(file.take(), spool, attachment.filename)
        case ChunkSource(chunks):
            _copy_chunks(chunks.take(), spool, attachment.filename)
        case WriterSource(write):
            write(spool)  # type: ignore[arg-type] # a BinaryIO in all but the stubs' name


def _copy_path(path: Path, spool: _Spool) -> None:
    try:
        # Looked at before it is opened: opening a FIFO would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a directory" if path.is_dir() else "something that is no file"
            raise AttachmentError(f"expected attachment {str(path)!r} to be a file, got: {what}")
        with path.open("rb", buffering=0) as file:
            _copy_file(file, spool, str(path))
    except OSError as error:
        raise _unreadable(str(path), error) from error
    except ValueError as error:  # a NUL in the path
        raise AttachmentError(f"expected attachment {str(path)!r} to be a path: {error}") from error


def _copy_file(file: BinaryIO | io.FileIO, spool: _Spool, name: str) -> None:
    """Copy what is left to read; a file on disk must stay as it is meanwhile."""
    before = _state_on_disk(file)
    try:
        copied = _copy_chunks(_pieces(file, name), spool, name)
    except OSError as error:
        raise _unreadable(name, error) from error
    if before is not None and _state_on_disk(file) != (*before[:2], before[2] + copied):
        raise AttachmentError(
            f"expected attachment {name!r} to stay as it is while it is read, got: a file that "
            "changed; enqueue again when it is complete"
        )


def _pieces(file: BinaryIO | io.FileIO, name: str) -> Iterator[Any]:
    while piece := file.read(CHUNK_BYTES):
        if isawaitable(piece):
            getattr(piece, "close", bool)()  # or Python warns that nobody awaited it
            raise AttachmentError(
                f"expected attachment {name!r} to be read at once, got: an asynchronous file; "
                "pass the plain one inside (UploadFile.file), or its bytes"
            )
        yield piece


def _copy_chunks(chunks: Iterable[Any], spool: _Spool, name: str) -> int:
    copied = 0
    for chunk in chunks:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise AttachmentError(
                f"expected attachment {name!r} to yield bytes, got: {type(chunk).__name__}; "
                "open the file in binary mode, or encode the text"
            )
        spool.write(chunk)
        copied += len(chunk)
    return copied


def _state_on_disk(file: Any) -> tuple[int, int, int] | None:
    """Return size, time of change, and place to read from; None for what is no plain file.

    A compressed file is not: it has a descriptor, whose size says nothing about what it yields.
    """
    inner = getattr(file, "file", file)  # tempfile's wrapper
    raw = getattr(inner, "raw", inner)
    if not isinstance(raw, io.FileIO):
        return None
    found = os.fstat(raw.fileno())
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, file.tell()


def _unreadable(name: str, error: OSError) -> AttachmentError:
    reason = error.strerror or str(error)
    return AttachmentError(f"expected attachment {name!r} to be a readable file, got: {reason}")


#: Chunks in one statement, both ways: a megabyte at a time.
_CHUNKS_A_STATEMENT = 4


def store_blobs(
    connection: Connection, tables: Tables, files: Sequence[SpooledAttachment], at: datetime
) -> None:
    """Store the bytes of ``files`` that are not there yet, in the caller's transaction.

    Where another transaction is storing the same bytes, this waits for its end. (Two that store
    the same two new files in two enqueues each, the other way round, wait for each other: the
    database ends one of them with a deadlock error, to be tried again.) What is there already is
    held against `prune` until the caller's transaction ends.
    """
    left = {file.sha256: file for file in files}
    while left:
        fresh = _insert_names(connection, tables, left, at)
        for sha256 in fresh:
            _store_chunks(connection, tables, left[sha256])
        kept = _lock_existing(connection, tables, left.keys() - fresh)
        # Whatever was neither new nor held has been pruned in between: store it again.
        left = {name: file for name, file in left.items() if name not in fresh | kept}


def _insert_names(
    connection: Connection, tables: Tables, files: dict[str, SpooledAttachment], at: datetime
) -> set[str]:
    """Insert the rows of blobs that are new; return their names."""
    # In one order everywhere, so that two transactions do not wait for each other.
    rows = [
        {"sha256": name, "size_bytes": files[name].part.size_bytes, "created_at": at}
        for name in sorted(files)
    ]
    statement = upsert(connection, tables.blob).on_conflict_do_nothing().values(rows)
    return set(connection.scalars(statement.returning(tables.blob.c.sha256)))


def _lock_existing(connection: Connection, tables: Tables, names: set[str]) -> set[str]:
    """Return which of ``names`` are there, and stay there until the transaction ends."""
    if not names or connection.dialect.name == "sqlite":
        return names  # SQLite has one writer: nobody can prune meanwhile
    wanted = select(tables.blob.c.sha256).where(tables.blob.c.sha256.in_(sorted(names)))
    return set(connection.scalars(wanted.with_for_update(read=True, key_share=True)))


def _store_chunks(connection: Connection, tables: Tables, file: SpooledAttachment) -> None:
    rows: list[dict[str, Any]] = []
    for position, chunk in enumerate(file.part.open()):
        rows.append({"sha256": file.sha256, "position": position, "data": chunk})
        if len(rows) == _CHUNKS_A_STATEMENT:
            connection.execute(insert(tables.blob_chunk), rows)
            rows = []
    if rows:
        connection.execute(insert(tables.blob_chunk), rows)


def read_blob(engine: Engine, tables: Tables, sha256: str) -> Iterator[bytes]:
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
