"""An attachment: what it is called, what it is, and where its bytes will come from.

Nothing is opened or read here; that happens once, when the message is enqueued.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message as ParsedMessage
from email.policy import SMTP
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

from postroom.errors import AttachmentError
from postroom.message.content_source import (
    BytesSource,
    ChunkSource,
    FileSource,
    PathSource,
    ReadOnce,
    Source,
    WriterSource,
)
from postroom.message.csv_table import CsvStyle, Rows, columns_of, encoded, write_csv
from postroom.message.excel import MEDIA_TYPE as EXCEL
from postroom.message.excel import sheets_of, write_workbook
from postroom.message.headers import clean_pasted
from postroom.message.media_type import checked_media_type, media_type_of_name
from postroom.text import check_line, shorten_repr

#: What may stand between the angle brackets of Content-ID (RFC 2045 section 7), kept to what
#: every reader resolves in a ``cid:`` URL without escaping.
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$&'*+/=?^_`{|}~.@-]{1,200}")

#: ``C:\\…``, ``\\…`` and ``..\\…``; what is only somewhere in a name is part of the name.
_WINDOWS_PATH = re.compile(r"(?:[A-Za-z]:|\.{0,2})\\")
_LONGEST_NAME = 255

#: RFC 5546 section 1.4.
_CALENDAR_METHODS = frozenset(
    {"PUBLISH", "REQUEST", "REPLY", "ADD", "CANCEL", "REFRESH", "COUNTER", "DECLINECOUNTER"}
)


class Disposition(StrEnum):
    """What a part is to the message."""

    #: Listed for the reader to open or save.
    ATTACHMENT = "attachment"
    #: Shown inside the HTML, by its content id.
    INLINE = "inline"
    #: Another form of the text, as a calendar invitation is.
    ALTERNATIVE = "alternative"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that travels with a message.

    Make one with `from_path`, `from_bytes`, `from_file`, `from_chunks`, `csv`, `excel`, `inline`,
    `from_message` or `calendar`. Nothing is read before the message is enqueued.

    What comes from an open file or an iterator can be read once, so a message that carries it can
    be enqueued once. The other kinds may be enqueued any number of times.

    Attributes:
        filename: What it is called; only the base name is sent.
        source: Where its bytes come from; the class methods make it.
        content_type: The media type. Where None, the name decides, then the bytes; otherwise it
            is ``application/octet-stream``.
        disposition: Whether it is listed, shown inside the HTML, or another form of the text.
        content_id: What the HTML calls it by, as ``cid:…``; for an inline part.

    Raises:
        AttachmentError: The name, the media type or the content id cannot be written.
    """

    filename: str
    source: Source
    content_type: str | None = None
    disposition: Disposition = Disposition.ATTACHMENT
    content_id: str | None = None

    def __post_init__(self) -> None:
        """Check each text, and settle the media type where the name tells."""
        filename = _base_name(self.filename)
        content_type = (
            media_type_of_name(filename)
            if self.content_type is None
            else checked_media_type(self.content_type)
        )
        object.__setattr__(self, "filename", filename)
        object.__setattr__(self, "content_type", content_type)
        object.__setattr__(self, "disposition", _checked_disposition(self.disposition))
        if not isinstance(self.source, Source):
            raise AttachmentError(
                f"the source of {filename!r} must be one of Postroom's, not "
                f"{shorten_repr(self.source)}; "
                "make the attachment with Attachment.from_path(…), from_bytes(…) or the like"
            )
        if self.content_id is not None:
            object.__setattr__(self, "content_id", _checked_content_id(self.content_id))

    @classmethod
    def from_path(
        cls,
        path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        content_type: str | None = None,
        cid: str | None = None,
    ) -> Self:
        """Attach the file at ``path``, as it is when the message is enqueued.

        Args:
            path: The file.
            filename: What it is called; the path's last part where None.
            content_type: The media type; found out where None.
            cid: Makes it an inline part that the HTML shows as ``cid:…``.
        """
        place = _checked_path(path)
        return cls(
            filename=place.name if filename is None else filename,
            source=PathSource(place),
            content_type=content_type,
            disposition=_disposition(cid),
            content_id=cid,
        )

    @classmethod
    def from_bytes(
        cls,
        filename: str,
        data: bytes | bytearray | memoryview,
        *,
        content_type: str | None = None,
        cid: str | None = None,
    ) -> Self:
        """Attach ``data``.

        Args:
            filename: What it is called.
            data: The content; encode text first.
            content_type: The media type; found out where None.
            cid: Makes it an inline part that the HTML shows as ``cid:…``.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise AttachmentError(
                f"expected the content of {shorten_repr(filename)} to be bytes, "
                f"got: {type(data).__name__}; encode text first"
            )
        return cls(
            filename=filename,
            source=BytesSource(bytes(data)),
            content_type=content_type,
            disposition=_disposition(cid),
            content_id=cid,
        )

    @classmethod
    def from_file(
        cls,
        filename: str,
        file: BinaryIO,
        *,
        content_type: str | None = None,
        cid: str | None = None,
    ) -> Self:
        """Attach what is left to read of an open file.

        Args:
            filename: What it is called.
            file: Open in binary mode; it is not closed.
            content_type: The media type; found out where None.
            cid: Makes it an inline part that the HTML shows as ``cid:…``.
        """
        if not callable(getattr(file, "read", None)):
            raise AttachmentError(
                f"expected {shorten_repr(filename)} to come from a file open in binary mode, "
                f"got: {type(file).__name__}"
            )
        return cls(
            filename=filename,
            source=FileSource(ReadOnce(file, filename)),
            content_type=content_type,
            disposition=_disposition(cid),
            content_id=cid,
        )

    @classmethod
    def from_chunks(
        cls,
        filename: str,
        chunks: Iterable[bytes],
        *,
        content_type: str | None = None,
        cid: str | None = None,
    ) -> Self:
        """Attach the pieces that ``chunks`` yields, one after the other.

        Args:
            filename: What it is called.
            chunks: Yields ``bytes``; read once, when the message is enqueued.
            content_type: The media type; found out where None.
            cid: Makes it an inline part that the HTML shows as ``cid:…``.
        """
        if isinstance(chunks, str | bytes | bytearray | memoryview):
            raise AttachmentError(
                f"expected the chunks of {shorten_repr(filename)} to be an iterable of bytes, "
                f"got: {type(chunks).__name__}; use Attachment.from_bytes"
            )
        return cls(
            filename=filename,
            source=ChunkSource(ReadOnce(chunks, filename)),
            content_type=content_type,
            disposition=_disposition(cid),
            content_id=cid,
        )

    @classmethod
    def csv(
        cls,
        filename: str,
        rows: Rows,
        *,
        columns: Sequence[str] | None = None,
        style: CsvStyle | None = None,
    ) -> Self:
        """Attach ``rows`` as a CSV file (RFC 4180, UTF-8), written when the message is enqueued.

        Args:
            filename: What it is called.
            rows: Sequences, mappings, objects, the rows of a query, or a data frame.
            columns: The names of the columns of plain sequences; of anything else, which columns
                to write, in this order.
            style: Separator, byte order mark and formulas; see `CsvStyle`.
        """
        supply = ReadOnce(rows, filename)
        return cls(
            filename=filename,
            source=WriterSource(
                partial(write_csv, supply, columns=columns_of(columns), style=style or CsvStyle())
            ),
            content_type="text/csv; charset=utf-8",
        )

    @classmethod
    def excel(
        cls,
        filename: str,
        rows: Rows | Mapping[str, Rows],
        *,
        columns: Sequence[str] | None = None,
    ) -> Self:
        """Attach ``rows``, or several sheets by name, as an Excel workbook.

        Needs the extra ``excel``. Text is written as text: what starts with ``=`` is no formula.

        Args:
            filename: What it is called.
            rows: As for `csv`; or a mapping of sheet names to rows.
            columns: As for `csv`; the same for every sheet.

        Raises:
            ConfigError: The extra is not installed.
        """
        sheets = sheets_of(rows, filename)
        return cls(
            filename=filename,
            source=WriterSource(partial(write_workbook, sheets, columns=columns_of(columns))),
            content_type=EXCEL,
        )

    @classmethod
    def inline(cls, path: str | os.PathLike[str], *, cid: str | None = None) -> Self:
        """Carry the file at ``path`` for the HTML to show as ``cid:…``.

        Args:
            path: The file.
            cid: What the HTML calls it by; the file's name where None.
        """
        return cls.from_path(path, cid=_checked_path(path).name if cid is None else cid)

    @classmethod
    def from_message(
        cls, original: bytes | ParsedMessage, *, filename: str = "message.eml"
    ) -> Self:
        """Attach a whole message (``message/rfc822``), for example one to be forwarded.

        Args:
            original: The message as it was received, or as the standard library parsed it.
            filename: What it is called.
        """
        content = original if isinstance(original, bytes) else _octets_of(original)
        return cls.from_bytes(filename, content, content_type="message/rfc822")

    @classmethod
    def calendar(
        cls, invitation: str | bytes, *, method: str = "REQUEST", filename: str = "invite.ics"
    ) -> Self:
        """Offer an iCalendar object beside the text, as calendars expect it (RFC 6047).

        Args:
            invitation: The iCalendar object. The lines of a ``str`` are ended by CRLF (RFC 5545
                section 3.1); bytes are sent as they are.
            method: The method that the object itself names.
            filename: What it is called where it is listed.

        Raises:
            AttachmentError: There is no such method.
        """
        if method not in sorted(_CALENDAR_METHODS):
            raise AttachmentError(
                f"expected a calendar method to be one of {', '.join(sorted(_CALENDAR_METHODS))}, "
                f"got: {shorten_repr(method)}"
            )
        if isinstance(invitation, str):
            invitation = encoded("\r\n".join(re.split(r"\r?\n", invitation)), "an invitation")
        elif not isinstance(invitation, bytes):
            raise AttachmentError(
                f"an invitation must be text or bytes, not {shorten_repr(invitation)}"
            )
        return cls(
            filename=filename,
            source=BytesSource(invitation),
            content_type=f"text/calendar; method={method}; charset=utf-8",
            disposition=Disposition.ALTERNATIVE,
        )


def _checked_path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise AttachmentError(f"the path of an attachment must be a path, not {shorten_repr(path)}")
    return Path(path)


def _octets_of(message: Any) -> bytes:
    if not isinstance(message, ParsedMessage):
        raise AttachmentError(
            f"a message to attach must be bytes or an email.message.Message, not "
            f"{shorten_repr(message)}"
        )
    try:
        return message.as_bytes(policy=SMTP)
    except Exception as error:  # whatever Python's generator makes of what others wrote
        raise AttachmentError(
            f"Python cannot write the message to attach ({type(error).__name__}: {error}); attach "
            "its bytes as they were received"
        ) from error


def _checked_disposition(disposition: Any) -> Disposition:
    if isinstance(disposition, str) and disposition in list(Disposition):
        return Disposition(disposition)
    raise AttachmentError(
        f"the disposition of an attachment must be one of {', '.join(Disposition)}, not "
        f"{shorten_repr(disposition)}"
    )


def _disposition(cid: str | None) -> Disposition:
    return Disposition.ATTACHMENT if cid is None else Disposition.INLINE


def _base_name(filename: str) -> str:
    """Return what people see of a file's name; see docs/bytes.md."""
    what = "the file name of an attachment"
    name = check_line(clean_pasted(filename), what, error=AttachmentError)
    name = name.rpartition("/")[2]
    if _WINDOWS_PATH.match(name):
        name = name.rpartition("\\")[2]
    name = name.replace("\\", "_").strip()
    if name in {"", ".", ".."}:
        raise AttachmentError(f"expected an attachment to have a file name, got: {filename!r}")
    if len(name) > _LONGEST_NAME:
        raise AttachmentError(
            f"the file name of an attachment has {len(name):,} characters, where no system allows "
            f"more than {_LONGEST_NAME}: {shorten_repr(name)}; give a shorter one with filename="
        )
    return name


def _checked_content_id(content_id: Any) -> str:
    if not isinstance(content_id, str) or not _CONTENT_ID.fullmatch(content_id):
        raise AttachmentError(
            "expected a content id to be up to 200 ASCII letters, digits and .-_@ without spaces "
            f"or brackets, got: {shorten_repr(content_id)}; give one with cid="
        )
    return content_id
