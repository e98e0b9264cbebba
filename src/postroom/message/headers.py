"""Checks for custom headers.

A header that passes cannot end a line, start another header, or take the place of one that Postroom
writes itself.
"""

from __future__ import annotations

import re
from typing import Any

from postroom.errors import InvalidHeader
from postroom.text import check_line, shorten_repr

#: Headers that Postroom writes itself, once each (RFC 5322 section 3.6), or relays on the way.
_RESERVED = frozenset(
    {
        "bcc",
        "cc",
        "date",
        "from",
        "message-id",
        "mime-version",
        "received",
        "reply-to",
        "return-path",
        "subject",
        "to",
    }
)
_INSTEAD = {
    "bcc": "pass bcc=… when enqueueing",
    "cc": "pass cc=… when enqueueing",
    "to": "pass to=… when enqueueing",
    "from": "set sender=…",
    "reply-to": "set reply_to=…",
    "subject": "set subject=…",
    "return-path": "set envelope_sender=…",
}

#: Headers without encoded-words (RFC 2047 section 5): they are ASCII, and written as they are.
STRUCTURED = frozenset(
    {
        "auto-submitted",
        "disposition-notification-to",
        "errors-to",
        "feedback-id",
        "importance",
        "in-reply-to",
        "list-archive",
        "list-help",
        "list-owner",
        "list-post",
        "list-subscribe",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "precedence",
        "priority",
        "references",
        "return-receipt-to",
        "sender",
        "x-priority",
    }
)

#: Headers with addresses, in which only the display names may be encoded: RFC 5322 (Sender,
#: Resent-…), RFC 8098 (Disposition-Notification-To), RFC 9057 (Author), RFC 5703 (Original-From),
#: and some that are in no RFC but in use.
ADDRESSES = frozenset(
    {
        "apparently-to",
        "author",
        "disposition-notification-to",
        "errors-to",
        "mail-followup-to",
        "mail-reply-to",
        "original-from",
        "resent-bcc",
        "resent-cc",
        "resent-from",
        "resent-reply-to",
        "resent-sender",
        "resent-to",
        "return-receipt-to",
        "sender",
    }
)

#: Headers that may occur once in a message (RFC 5322 section 3.6, and the RFC of each).
SINGLE = STRUCTURED | {"list-id"}

#: A word is never folded; with the longest name it must fit into a line of 998 octets.
MAX_WORD = 900
MAX_NAME = 76

#: Postfix cuts a header at 102,400 octets (header_size_limit), and an encoded character that is not
#: ASCII can take seven of them.
MAX_VALUE = 50_000

#: Characters that are pasted from spreadsheets, editors and layout programs, and look like a space.
_PASTED = re.compile(" *[\t\v\f\u2028\u2029][ \t\v\f\u2028\u2029]*")
_NAME = re.compile(r"[!-\-/-9;-~][!-9;-~]*")
_MESSAGE_ID = re.compile(r"<[^<>\s]+>")


def clean_pasted(text: Any) -> Any:
    """Return ``text`` with pasted whitespace as single spaces.

    A run of tabs, vertical tabs, form feeds and line or paragraph separators (U+2028, U+2029), with
    the spaces around it, becomes one space, and nothing at the start and the end. No-break spaces
    and other spaces of Unicode stay. CR, LF and other control characters stay, for `check_line` to
    refuse: nobody pastes them by accident.

    Args:
        text: The text; anything else is returned as it is.
    """
    if not isinstance(text, str) or text.isprintable() or not _PASTED.search(text):
        return text
    return _PASTED.sub(" ", text).strip(" ")


def check_header(name: str, value: str) -> tuple[str, str]:
    """Return the custom header as a pair, if it can be written.

    Args:
        name: The name of the header.
        value: Its value; spaces around it have no meaning.

    Raises:
        InvalidHeader: The name is not a header name (RFC 5322 section 2.2), or Postroom writes that
            header itself; the value is not one line, or does not fit the syntax of the header.
    """
    _check_name(name)
    check_line(value, f"the header {name}", longest=MAX_VALUE)
    lower = name.lower()
    if lower in ADDRESSES and not value.isascii():
        return name, value  # `validation.checked_headers` parses the addresses
    if lower in STRUCTURED or lower in ADDRESSES:
        _check_structured(name, value)
    if lower == "list-id":
        _check_list_id(name, value)
    return name, value


def is_reserved(name: str) -> bool:
    """Return whether the header ``name``, in lower case, is not for applications to write.

    Nor is one that begins with a dot: where a transport takes the dot away, ``.Subject`` becomes
    ``Subject`` (RFC 5321 section 4.5.2).
    """
    return name in _RESERVED or name.startswith(("content-", "."))


def _check_name(name: str) -> None:
    check_line(name, "a header name")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidHeader(
            f"a header name must have at most {MAX_NAME} ASCII characters without spaces and "
            f"colons, and not begin with a dot, unlike {shorten_repr(name)}"
        )
    lower = name.lower()
    if is_reserved(lower):
        instead = _INSTEAD.get(lower, "leave it out")
        raise InvalidHeader(f"Postroom writes the header {name} itself; {instead}")


def _check_structured(name: str, value: str) -> None:
    words = value.split()
    if not value.isascii() or not words or max(map(len, words)) > MAX_WORD:
        raise InvalidHeader(
            f"the header {name} must be ASCII, in words of at most {MAX_WORD} characters, not "
            f"{shorten_repr(value)}"
        )
    if name.lower() in {"in-reply-to", "references"}:
        _check_message_ids(name, words)


def _check_list_id(name: str, value: str) -> None:
    identifier = value.rpartition("<")[2].strip(" ")
    if not identifier.isascii() or len(identifier) > MAX_WORD:
        raise InvalidHeader(
            f"the id in {name} must be ASCII, of at most {MAX_WORD} characters, not "
            f"{shorten_repr(value)}"
        )


def _check_message_ids(name: str, words: list[str]) -> None:
    for word in words:
        if not _MESSAGE_ID.fullmatch(word):
            raise InvalidHeader(
                f"the header {name} must contain ids like <id@domain.example>, not "
                f"{shorten_repr(word)}"
            )
