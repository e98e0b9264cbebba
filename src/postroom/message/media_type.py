"""Media types, from the name of a file or from its first bytes.

The same file has the same type on every machine and every Python.
"""

from __future__ import annotations

import mimetypes
import re
from typing import Any

import puremagic

from postroom.errors import AttachmentError
from postroom.text import shorten_repr

UNKNOWN = "application/octet-stream"

#: How many of the first bytes are examined.
SNIFFED_BYTES = 4096

#: A type and a subtype have at most 127 characters each (RFC 6838 section 4.2).
_MAX_CHARACTERS = 500

_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_MEDIA_TYPE = re.compile(
    rf'({_WORD}/{_WORD})((?: *; *{_WORD}=(?:{_WORD}|"[^"\\\x00-\x1f\x7f-\U0010ffff]*"))*)'
)

#: The common ones. What `mimetypes` knows depends on the machine and on the Python.
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

#: The start of every ZIP file; `puremagic` takes them for Word documents.
_ZIP_START = b"PK\x03\x04"


def media_type_of_name(filename: str) -> str | None:
    """Return the media type for a file name; None if its extension is unknown.

    Args:
        filename: The name of the file.
    """
    _, dot, extension = filename.rpartition(".")
    if not dot:
        return None
    known = _TYPES_BY_EXTENSION.get("." + extension.lower())
    # Only the extension: `mimetypes` would read some names as a URL.
    return known or mimetypes.guess_type(f"name.{extension}")[0]


def media_type_of_bytes(start: bytes) -> str:
    """Return the media type of some content; ``application/octet-stream`` if it is unknown.

    Args:
        start: The first bytes; 4,096 are enough.
    """
    if start.startswith(_ZIP_START):
        return "application/zip"
    try:
        found = puremagic.from_string(start[:SNIFFED_BYTES], mime=True)
    except (puremagic.PureError, ValueError):
        return UNKNOWN
    return found if _MEDIA_TYPE.fullmatch(found) else UNKNOWN


def checked_media_type(value: Any) -> str:
    """Return ``value`` if it is a media type (RFC 2045 section 5.1), with the type in lower case.

    Args:
        value: The value to check, such as ``text/csv; charset=utf-8``.

    Raises:
        AttachmentError: It is not, or it is a ``multipart``, which an attachment cannot be.
    """
    is_short = isinstance(value, str) and len(value) <= _MAX_CHARACTERS
    match = _MEDIA_TYPE.fullmatch(value) if is_short else None
    if match is None or match[1].lower().startswith("multipart/"):
        raise AttachmentError(
            "a media type must be like 'text/csv; charset=utf-8', with at most "
            f"{_MAX_CHARACTERS} characters, not {shorten_repr(value)}"
        )
    return match[1].lower() + match[2]
