"""What may be written into a header, checked where a value is assigned and nowhere else.

Nothing that passes here can end a line, start another header or hide from a reader.
"""

from __future__ import annotations

import re
from typing import Any

from postroom.errors import InvalidHeader
from postroom.text import check_line, shorten_repr

#: Written by the composer, once each (RFC 5322 section 3.6), or by relays on the way.
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

#: Fields whose syntax has no room for encoded-words (RFC 2047 section 5): ASCII, word for word.
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

#: Fields of mailboxes, of which only the names may be encoded: RFC 5322 (Sender, Resent-…), RFC
#: 8098 (Disposition-Notification-To), RFC 9057 (Author), RFC 5703 (Original-From), and some that no
#: RFC has but programs know.
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

#: May stand in a message once (RFC 5322 section 3.6, and the RFC of each).
SINGLE = STRUCTURED | {"list-id"}

#: A word is never folded: with the longest name before it, it must fit a line of 998 octets.
MAX_WORD = 900
MAX_NAME = 76

#: Postfix drops what goes beyond 102,400 octets in a field (header_size_limit). Encoded, a
#: character beyond ASCII can take seven of them.
MAX_VALUE = 50_000

#: What is pasted along from spreadsheets, editors and layout programs; to people it is a space.
_PASTED = re.compile(" *[\t\v\f\u2028\u2029][ \t\v\f\u2028\u2029]*")
_NAME = re.compile(r"[!-\-/-9;-~][!-9;-~]*")
_MESSAGE_ID = re.compile(r"<[^<>\s]+>")


def unpasted(text: Any) -> Any:
    """Return ``text`` as a person sees it in one line, where it holds what was pasted along.

    A run of tabs, vertical tabs, form feeds and line or paragraph separators (U+2028, U+2029), with
    the spaces around it, is one space, and none at the start and the end. A no-break space stays,
    and so do other spaces of Unicode. CR, LF and other controls are left for `checked_text` to
    refuse: they are no slip of the hand. What is no text is returned as it is.
    """
    if not isinstance(text, str) or text.isprintable() or not _PASTED.search(text):
        return text
    return _PASTED.sub(" ", text).strip(" ")


def check_header(name: str, value: str) -> tuple[str, str]:
    """Return the custom header ``name: value``; spaces around the value mean nothing.

    Raises:
        InvalidHeader: the name is not one (RFC 5322 section 2.2) or belongs to the composer; the
            value cannot stand in a line, or does not fit the syntax of that field.
    """
    _check_name(name)
    check_line(value, f"the header {name}", longest=MAX_VALUE)
    lower = name.lower()
    if lower in ADDRESSES and not value.isascii():
        return name, value  # read as addresses where addresses are known: `checks.headers_of`
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
            f"expected a header name to be at most {MAX_NAME} ASCII characters without spaces and "
            f"colons, the first of them no dot, got: {shorten_repr(name)}"
        )
    lower = name.lower()
    if is_reserved(lower):
        instead = _INSTEAD.get(lower, "leave it out")
        raise InvalidHeader(
            f"expected a header that Postroom does not write itself, got: {name} ({instead})"
        )


def _check_structured(name: str, value: str) -> None:
    words = value.split()
    if not value.isascii() or not words or max(map(len, words)) > MAX_WORD:
        raise InvalidHeader(
            f"expected the header {name} to be ASCII, in words of at most {MAX_WORD} characters, "
            f"got: {shorten_repr(value)}"
        )
    if name.lower() in {"in-reply-to", "references"}:
        _check_message_ids(name, words)


def _check_list_id(name: str, value: str) -> None:
    identifier = value.rpartition("<")[2].strip(" ")
    if not identifier.isascii() or len(identifier) > MAX_WORD:
        raise InvalidHeader(
            f"expected the id in {name} to be ASCII, of at most {MAX_WORD} characters, "
            f"got: {shorten_repr(value)}"
        )


def _check_message_ids(name: str, words: list[str]) -> None:
    for word in words:
        if not _MESSAGE_ID.fullmatch(word):
            raise InvalidHeader(
                f"expected the header {name} to hold ids like <id@domain.example>, "
                f"got: {shorten_repr(word)}"
            )
