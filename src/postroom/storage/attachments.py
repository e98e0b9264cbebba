"""Attachments: read once into temporary files, stored as blobs by their hash, read back by workers.

An attachment is read before anything is written to the database. A file that is missing, too large,
or changes while it is read is refused while there is nothing to undo.
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

#: Attachments up to this size stay in memory and never touch the disk.
IN_MEMORY_BYTES = 1024 * 1024

#: Chunks in one statement, when writing and when reading: a megabyte at a time.
_CHUNKS_A_STATEMENT = 4


@dataclass(frozen=True, slots=True)
class SpooledAttachment:
    """An attachment in a temporary file, which lasts as long as the `spool` block.

    Attributes:
        part: Name, media type, size, and a way to read the bytes.
        sha256: Hash of the bytes, in hex.
    """

    part: StoredAttachment
    sha256: str


@contextmanager
def spool(
    attachments: Sequence[Attachment], max_bytes: int
) -> Iterator[tuple[SpooledAttachment, ...]]:
    """Read ``attachments`` one after the other.

    Args:
        attachments: What to read.
        max_bytes: The most that all of them may take together, encoded in base64.

    Raises:
        AttachmentError: one is missing, unreadable, or changed while it was read.
        MessageTooLarge: they are larger than ``max_bytes``.
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
    """Return the size of ``size_bytes`` in base64, in lines of 76 characters and CRLF."""
    characters = -(-size_bytes // 3) * 4
    return characters + 2 * -(-characters // 76)


def _unencoded_bytes(room: int) -> int:
    """Return how many unencoded bytes fit into ``room`` when encoded."""
    return max(room, 0) * 76 // 78 * 3 // 4


class _Spool(SpooledTemporaryFile[bytes]):
    """A temporary file with a size limit."""

    def __init__(self, filename: str, room: int, max_bytes: int) -> None:
        super().__init__(max_size=IN_MEMORY_BYTES, prefix="postroom-")
        self._filename = filename
        self._room = room
        self._max_bytes = max_bytes

    def write(self, s: Any) -> int:
        if self.tell() + len(s) > self._room:
            raise MessageTooLarge(
                f"with attachment {self._filename!r} the message is larger than "
                f"{self._max_bytes:,} bytes when encoded (max_message_bytes)"
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
            write(spool)  # type: ignore[arg-type] # a BinaryIO, though its stubs do not say so


def _check_is_file(path: Path) -> None:
    # Before it is opened: opening a FIFO would wait for its writer.
    if not stat.S_ISREG(path.stat().st_mode):
        what = "a directory" if path.is_dir() else "a device, a pipe or a socket"
        raise AttachmentError(f"attachment {str(path)!r} must be a file, not {what}")


def _copy_path(path: Path, spool: _Spool) -> None:
    try:
        _check_is_file(path)
        with path.open("rb", buffering=0) as file:
            _copy_file(file, spool, str(path))
    except OSError as error:
        raise _unreadable(str(path), error) from error
    except AttachmentError:
        raise
    except ValueError as error:  # a NUL in the path
        raise AttachmentError(f"attachment {str(path)!r} is not a valid path: {error}") from error


def _copy_file(file: BinaryIO | io.FileIO, spool: _Spool, name: str) -> None:
    """Copy what is left to read; a file on disk must not change during that."""
    before = _state_on_disk(file)
    try:
        copied = _copy_chunks(_pieces(file, name), spool, name)
    except OSError as error:
        raise _unreadable(name, error) from error
    if before is not None and _state_on_disk(file) != (*before[:2], before[2] + copied):
        raise AttachmentError(
            f"attachment {name!r} changed while it was read; enqueue again when it is complete"
        )


def _pieces(file: BinaryIO | io.FileIO, name: str) -> Iterator[Any]:
    while piece := file.read(CHUNK_BYTES):
        if isawaitable(piece):
            getattr(piece, "close", bool)()  # or Python warns that it was never awaited
            raise AttachmentError(
                f"attachment {name!r} must not be an asynchronous file; "
                "pass the plain file inside it (UploadFile.file), or its bytes"
            )
        yield piece


def _copy_chunks(chunks: Iterable[Any], spool: _Spool, name: str) -> int:
    copied = 0
    for chunk in chunks:
        if not isinstance(chunk, bytes | bytearray | memoryview):
            raise AttachmentError(
                f"attachment {name!r} must yield bytes, not {type(chunk).__name__}; "
                "open the file in binary mode, or encode the text"
            )
        spool.write(chunk)
        copied += len(chunk)
    return copied


def _state_on_disk(file: Any) -> tuple[int, int, int] | None:
    """Return size, modification time and read position; None if ``file`` is not a plain file.

    A compressed file is not one: it has a descriptor, whose size says nothing about what it yields.
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
    return AttachmentError(f"attachment {name!r} cannot be read: {reason}")


def store_blobs(
    connection: Connection, tables: Tables, files: Sequence[SpooledAttachment], at: datetime
) -> None:
    """Store the blobs of ``files`` that the database does not have yet.

    If another transaction is storing the same bytes, this waits for it to end. (Two transactions
    that store the same two new files in opposite order, in two enqueues each, wait for each other:
    the database ends one of them with a deadlock error, and it can be retried.) Existing blobs are
    locked against `prune` until the caller's transaction ends.

    Args:
        connection: A connection in the caller's transaction.
        tables: The outbox's tables.
        files: What `spool` has read.
        at: The time to note as ``created_at``.
    """
    left = {file.sha256: file for file in files}
    while left:
        fresh = _insert_names(connection, tables, left, at)
        for sha256 in fresh:
            _store_chunks(connection, tables, left[sha256])
        kept = _lock_existing(connection, tables, left.keys() - fresh)
        # What was neither inserted nor locked has been pruned in between: store it again.
        left = {name: file for name, file in left.items() if name not in fresh | kept}


def _insert_names(
    connection: Connection, tables: Tables, files: dict[str, SpooledAttachment], at: datetime
) -> set[str]:
    """Insert the rows of new blobs; return their hashes."""
    # Sorted, so that two transactions do not wait for each other.
    rows = [
        {"sha256": name, "size_bytes": files[name].part.size_bytes, "created_at": at}
        for name in sorted(files)
    ]
    statement = upsert(connection, tables.blob).on_conflict_do_nothing().values(rows)
    return set(connection.scalars(statement.returning(tables.blob.c.sha256)))


def _lock_existing(connection: Connection, tables: Tables, names: set[str]) -> set[str]:
    """Return which of ``names`` exist, and keep them until the transaction ends."""
    if not names or connection.dialect.name == "sqlite":
        return names  # SQLite has one writer: nothing can be pruned meanwhile
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
    """Yield the bytes of a blob in chunks of at most 256 KiB; nothing if it does not exist.

    Every few chunks are one short transaction: none stays open while the caller works with them.

    Args:
        engine: The database.
        tables: The outbox's tables.
        sha256: Hash of the blob, in hex.
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
