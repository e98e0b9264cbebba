"""Where an attachment's bytes come from. They are read in `postroom.storage.attachments`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set, ValuesView
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from postroom.errors import AttachmentError

T = TypeVar("T")


class ReadOnce(Generic[T]):
    """Something that may be read a single time, unless it is known to stay as it is.

    Lists and frames can be read again and again; files, generators and query results cannot, and
    a second reading would silently find nothing.
    """

    __slots__ = ("_filename", "_is_taken", "_supply")

    def __init__(self, supply: T, filename: str) -> None:
        self._supply = supply
        self._filename = filename
        self._is_taken = False

    def take(self) -> T:
        """Hand out what is to be read.

        Raises:
            AttachmentError: it was handed out before, and can be read only once.
        """
        if self._is_taken and not _stays(self._supply):
            raise AttachmentError(
                f"expected the content of attachment {self._filename!r} to be unread, got: "
                f"{type(self._supply).__name__} that an earlier enqueue has read; make the "
                "attachment anew for each message, or from a path, bytes or a list"
            )
        self._is_taken = True
        return self._supply


def _stays(supply: object) -> bool:
    """Tell lists, sets and frames (pandas' and polars') from what is used up by reading."""
    is_frame = hasattr(supply, "itertuples") or hasattr(supply, "iter_rows")
    return is_frame or isinstance(supply, Sequence | Set | ValuesView)


@dataclass(frozen=True, slots=True)
class PathSource:
    """A file, opened and read at enqueue."""

    path: Path


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Bytes at hand."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FileSource:
    """An open file, read from where it stands."""

    file: ReadOnce[BinaryIO]


@dataclass(frozen=True, slots=True)
class ChunkSource:
    """An iterable of bytes."""

    chunks: ReadOnce[Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class WriterSource:
    """Something that writes itself into an empty, seekable file."""

    write: Callable[[BinaryIO], None] = field(repr=False)


Source = PathSource | BytesSource | FileSource | ChunkSource | WriterSource
