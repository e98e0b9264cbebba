"""The sources of an attachment's bytes, which `postroom.storage.attachments` reads.

A source that can be read only once is never silently read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set, ValuesView
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from postroom.errors import AttachmentError

T = TypeVar("T")


class ReadOnce(Generic[T]):
    """A source that may be read once, unless reading does not change it.

    Lists and frames can be read again; files, generators and query results cannot, and a second
    reading would silently find nothing.

    Args:
        source: What is read.
        filename: The file name of the attachment, for errors.
    """

    __slots__ = ("_filename", "_is_taken", "_source")

    def __init__(self, source: T, filename: str) -> None:
        self._source = source
        self._filename = filename
        self._is_taken = False

    def take(self) -> T:
        """Return the source.

        Raises:
            AttachmentError: It was returned before, and can be read only once.
        """
        if self._is_taken and not _is_rereadable(self._source):
            raise AttachmentError(
                f"the content of the attachment {self._filename!r}, a "
                f"{type(self._source).__name__}, was read by an earlier enqueue; make a new "
                "attachment for each message, or make it from a path, bytes or a list"
            )
        self._is_taken = True
        return self._source


def _is_rereadable(source: object) -> bool:
    """Return whether it is a list, a set, or a frame of pandas or polars."""
    is_frame = hasattr(source, "itertuples") or hasattr(source, "iter_rows")
    return is_frame or isinstance(source, Sequence | Set | ValuesView)


@dataclass(frozen=True, slots=True)
class PathSource:
    """A file by its path, opened and read at enqueue."""

    path: Path


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Bytes in memory."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FileSource:
    """An open file, read from its current position."""

    file: ReadOnce[BinaryIO]


@dataclass(frozen=True, slots=True)
class ChunkSource:
    """An iterable of bytes."""

    chunks: ReadOnce[Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class WriterSource:
    """A function that writes the content into an empty, seekable file."""

    write: Callable[[BinaryIO], None] = field(repr=False)


Source = PathSource | BytesSource | FileSource | ChunkSource | WriterSource
