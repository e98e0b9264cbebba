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
from inspect import isawaitable
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO

from postroom.storage.models import CHUNK_BYTES
from postroom.values.attachment import Attachment
from postroom.values.errors import AttachmentError, MessageTooLarge
from postroom.values.media_type import SNIFFED_BYTES, media_type_of_bytes
from postroom.values.message import Part
from postroom.values.source import BytesSource, ChunkSource, FileSource, PathSource, WrittenSource

#: What is no larger than this never touches the disk.
IN_MEMORY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Spooled:
    """An attachment that has been read. Its file lasts as long as the `spooled` block."""

    part: Part
    sha256: str


@contextmanager
def spooled(attachments: Sequence[Attachment], max_bytes: int) -> Iterator[tuple[Spooled, ...]]:
    """Read ``attachments`` one after the other; together, encoded, they fit into ``max_bytes``.

    Raises:
        AttachmentError: one is missing, unreadable, or changed while it was read.
        MessageTooLarge: they do not fit.
    """
    with ExitStack() as files:
        read: list[Spooled] = []
        room = _unencoded_bytes(max_bytes)
        for attachment in attachments:
            spool = files.enter_context(_Spool(attachment.filename, room, max_bytes))
            read.append(_read(attachment, spool))
            room -= read[-1].part.size_bytes
        yield tuple(read)


def encoded_bytes(size_bytes: int) -> int:
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


def _read(attachment: Attachment, spool: _Spool) -> Spooled:
    _fill(spool, attachment)
    digest, size_bytes, start = hashlib.sha256(), 0, b""
    for chunk in spool.chunks():
        digest.update(chunk)
        size_bytes += len(chunk)
        start = start or chunk[:SNIFFED_BYTES]
    part = Part(
        filename=attachment.filename,
        content_type=attachment.content_type or media_type_of_bytes(start),
        disposition=attachment.disposition,
        content_id=attachment.content_id,
        size_bytes=size_bytes,
        open=spool.chunks,
    )
    return Spooled(part, digest.hexdigest())


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
        case WrittenSource(write):
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
