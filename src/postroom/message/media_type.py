"""Media types: from a file's name, else from its first bytes, the same on every machine."""

from __future__ import annotations

import mimetypes
import re
from typing import Any

import puremagic

from postroom.errors import AttachmentError
from postroom.text import shorten_repr

UNKNOWN = "application/octet-stream"

#: How many of the first bytes are looked at.
SNIFFED_BYTES = 4096

#: A type and a subtype have at most 127 characters each (RFC 6838 section 4.2).
_LONGEST = 500

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_MEDIA_TYPE = re.compile(
    rf'({_WORD}/{_WORD})((?: *; *{_WORD}=(?:{_WORD}|"[^"\\\x00-\x1f\x7f-\U0010ffff]*"))*)'
)

#: The ones that matter, fixed: what `mimetypes` knows depends on the machine and on the Python.
_TYPES_BY_EXTENSION = {
    ".7z": "application/x-7z-compressed",
    ".aac": "audio/aac",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".bz2": "application/x-bzip2",
    ".css": "text/css",
    ".csv": "text/csv",
    ".doc": "application/msword",
    ".docm": "application/vnd.ms-word.document.macroEnabled.12",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".eml": "message/rfc822",
    ".epub": "application/epub+zip",
    ".flac": "audio/flac",
    ".gif": "image/gif",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".ics": "text/calendar",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mov": "video/quicktime",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ogg": "audio/ogg",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".pkpass": "application/vnd.apple.pkpass",
    ".png": "image/png",
    ".ppt": "application/vnd.ms-powerpoint",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".rar": "application/vnd.rar",
    ".rtf": "application/rtf",
    ".svg": "image/svg+xml",
    ".tar": "application/x-tar",
    ".tgz": "application/gzip",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".vcf": "text/vcard",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".xls": "application/vnd.ms-excel",
    ".xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xml": "application/xml",
    ".xz": "application/x-xz",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}

#: The start of every ZIP file; `puremagic` would take one for a Word document.
_ZIP_START = b"PK\x03\x04"


def media_type_of_name(filename: str) -> str | None:
    """Return the media type that the extension stands for, or None where it tells nothing."""
    _, dot, extension = filename.rpartition(".")
    if not dot:
        return None
    known = _TYPES_BY_EXTENSION.get("." + extension.lower())
    # Without the rest of the name, which `mimetypes` would read as a URL.
    return known or mimetypes.guess_type(f"name.{extension}")[0]


def media_type_of_bytes(start: bytes) -> str:
    """Return the media type that the first bytes show, or ``application/octet-stream``."""
    if start.startswith(_ZIP_START):
        return "application/zip"
    try:
        found = puremagic.from_string(start[:SNIFFED_BYTES], mime=True)
    except (puremagic.PureError, ValueError):
        return UNKNOWN
    return found if _MEDIA_TYPE.fullmatch(found) else UNKNOWN


def checked_media_type(value: Any) -> str:
    """Return ``value`` where it is a media type (RFC 2045 section 5.1).

    Raises:
        AttachmentError: it is not, or it is a ``multipart``, which has no bytes of its own.
    """
    is_short = isinstance(value, str) and len(value) <= _LONGEST
    match = _MEDIA_TYPE.fullmatch(value) if is_short else None
    if match is None or match[1].lower().startswith("multipart/"):
        raise AttachmentError(
            "expected a media type to be like 'text/csv; charset=utf-8', of at most "
            f"{_LONGEST} characters, got: {shorten_repr(value)}"
        )
    return match[1].lower() + match[2]
