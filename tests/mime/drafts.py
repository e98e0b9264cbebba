"""Drafts of every kind: all of Unicode, every structure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from email.policy import SMTP
from functools import partial
from typing import Any

from hypothesis import strategies as st

from postroom.errors import InvalidAddress
from postroom.message.address import Address
from postroom.message.message import Disposition, Draft, StoredAttachment

TOKEN = "0123456789abcdef0123456789abcdef"

#: For internal use only (Unicode, section 23.7); Perl reads U+FFFD for each.
_NONCHARACTERS = "".join(
    map(
        chr,
        [*range(0xFDD0, 0xFDF0), *(n << 16 | low for n in range(17) for low in (0xFFFE, 0xFFFF))],
    )
)
#: Everything that can be written: no surrogates.
character = st.characters(exclude_categories=["Cs"], exclude_characters=_NONCHARACTERS)
#: What `checked_text` lets pass: no controls, no line separators either.
printable = st.characters(
    exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters=_NONCHARACTERS
)


def repeated(*pieces: str, times: int) -> st.SearchStrategy[str]:
    """Draw long texts cheaply: a few of ``pieces``, again and again."""
    some = st.lists(st.sampled_from(pieces), min_size=1, max_size=5).map("".join)
    return st.builds(lambda text, number: text * number, some, st.integers(1, times))


line = st.one_of(
    st.text(printable, max_size=20),
    st.text(printable, min_size=20, max_size=60),
    repeated(*"aé日🚀 =?_\"\\()<>,;:@.'", times=30),
    repeated("a", "bc", " ", "  ", "é ", "Wort ", times=40),
    st.integers(900, 1100).map(lambda length: "a" * length),
    st.sampled_from(["=?utf-8?q?x?=", "a =?us-ascii?b?YQ==?= b", " a", "a ", "a  b", "Re: x: y"]),
)
body = st.one_of(
    st.text(character, max_size=80),
    repeated(*"ab.=- \t\r\nF-_é日", "\r\n", "\n.", times=40),
    repeated(".\n", "..\n", "From me\n", "From\n", " \n", "end \n", "--=_", "=", "=_x", times=9),
    repeated("a", "b ", ".", "a" * 75, times=300),
    repeated("日本語テキスト。\n", "テキ", "e", "Größe ", times=50),
    st.sampled_from(["", "\n", ".", "hello", "hello\n", "\n\n", "." * 200, "é" + "." * 200]),
)
_local = st.one_of(
    repeated(*"abz09", *"!#$%&'*+/=?^_`{|}~-", "a.b", "Xy", times=3),
    st.text(st.characters(categories=["Ll", "Lo", "Nd"]), min_size=1, max_size=10),
)
_domain = st.one_of(
    st.sampled_from(
        ["example.com", "bücher.example", "例え.テスト", "xn--bcher-kva.example", "straße.example"]
    ),
    repeated("a", "b-c", "9x", ".d", times=4).map(lambda label: f"{label}.example"),
    st.just(".".join(["a" * 60] * 3) + ".example"),
)
#: Names as people have them, and as nobody has them.
names = st.one_of(
    st.just(""), st.sampled_from(["Ann", "Ann B. Smith", "O'Neil, Sam", 'Sam "Ace" Hill']), line
)


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    """Draw an address that Postroom writes to."""
    local, domain, name = draw(_local), draw(_domain), draw(names)
    try:
        return Address.from_parts(local=local, domain=domain, name=name)
    except InvalidAddress:
        return Address.from_parts(local="ann", domain="example.com", name=name)


_custom_headers = st.lists(
    st.one_of(
        st.tuples(repeated("A", "b", "9-", times=5).map("X-{}".format), line),
        st.just(("References", " ".join(f"<{number}.{TOKEN}@example.com>" for number in range(9)))),
        st.just(("List-Unsubscribe", f"<https://example.com/{'u' * 300}>, <mailto:u@example.com>")),
        st.just(("List-ID", "Neuigkeiten für alle <news.example.com>")),
        st.just(("Auto-Submitted", "no")),
        st.just(("Importance", "high")),
    ),
    max_size=4,
    unique_by=lambda header: header[0].lower(),
).map(tuple)

file_names = (
    st.one_of(
        st.text(printable, min_size=1, max_size=40).map(
            lambda name: name.replace("/", "").replace("\\", "")
        ),
        repeated(*"aé日🚀 %'\"*;=", times=30),
        st.sampled_from(
            ["report.csv", "Bücher 2024.xlsx", "日本語の長い名前" * 9 + ".pdf", 'a"b.txt']
        ),
    )
    .map(str.strip)
    .filter(lambda name: name not in {"", "0"})
)  # "0" is nothing in Perl
_octets = st.one_of(
    st.binary(max_size=30),
    st.integers(0, 400).map(bytes),
)


def part(
    octets: bytes,
    *,
    chunk_bytes: int = 1 << 18,
    disposition: Disposition = Disposition.ATTACHMENT,
    **changes: Any,
) -> StoredAttachment:
    """Return an attachment of ``octets``, opened in chunks of ``chunk_bytes``."""
    fields = {
        "filename": "data.bin",
        "content_type": "application/octet-stream",
        "content_id": None,
    }
    return StoredAttachment(
        **(fields | changes),
        disposition=disposition,
        size_bytes=len(octets),
        open=partial(_chunks, octets, chunk_bytes),
    )


def _chunks(octets: bytes, chunk_bytes: int) -> Iterator[bytes]:
    for start in range(0, len(octets), chunk_bytes):
        yield octets[start : start + chunk_bytes]


def attached_message(text: str = "Forwarded\n") -> bytes:
    """Return a message to attach, as the standard library writes it."""
    message = EmailMessage()
    message["From"] = "Dora <dora@example.org>"
    message["Subject"] = "Inner"
    message.set_content(text)
    return message.as_bytes(policy=SMTP)


@st.composite
def parts(draw: st.DrawFn) -> StoredAttachment:
    """Draw an attachment, an inline image, an invitation or a message."""
    kind = draw(st.sampled_from(["file", "file", "text", "inline", "calendar", "message"]))
    octets = draw(_octets)
    chunk_bytes = (
        draw(st.sampled_from([1, 56, 57, 58, 1000, 1 << 18])) if len(octets) < 999 else 9999
    )
    shared: dict[str, Any] = {"filename": draw(file_names), "chunk_bytes": chunk_bytes}
    if kind == "inline":
        cid = f"image{draw(st.integers(1, 10**9))}@example"
        inline = Disposition.INLINE
        return part(octets, content_type="image/png", disposition=inline, content_id=cid, **shared)
    if kind == "calendar":
        event = f"BEGIN:VCALENDAR\r\nSUMMARY:{draw(st.text(printable, max_size=20))}\r\n".encode()
        method = "text/calendar; method=REQUEST; charset=utf-8"
        return part(event, content_type=method, disposition=Disposition.ALTERNATIVE, **shared)
    if kind == "message":
        texts = ["Plain\n", "Größe\n", ".dot\n", "From here on\n", "x" * 2000 + "\n"]
        message = attached_message(draw(st.sampled_from(texts)))
        if draw(st.booleans()):
            message = message.replace(b"\r\n", b"\n")
        return part(message, content_type="message/rfc822", **shared)
    return part(octets, content_type="text/csv" if kind == "text" else "image/jpeg", **shared)


_dates = st.builds(
    lambda moment, minutes: moment.replace(tzinfo=timezone(timedelta(minutes=minutes))),
    st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2090, 1, 1)),  # noqa: DTZ001
    st.integers(-720, 720),
)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Draw a draft with nothing left to render."""
    together = draw(st.booleans())
    people = st.lists(addresses(), max_size=3).map(tuple)
    return Draft(
        message_id_seed=TOKEN,
        date=draw(_dates),
        sender=draw(addresses()),
        subject=draw(line),
        text=draw(st.none() | body),
        html=draw(st.none() | body),
        headers=draw(_custom_headers),
        reply_to=draw(people),
        to=draw(people) if together else (),
        cc=draw(people) if together else (),
        shared=together,
        attachments=draw(st.lists(parts(), max_size=3).map(tuple)),
    )


def draft(**changes: Any) -> Draft:
    """Return a plain draft, with ``changes``."""
    fields: dict[str, Any] = {
        "message_id_seed": TOKEN,
        "date": datetime(2024, 5, 1, 12, 30, tzinfo=UTC),
        "sender": Address("Shop <shop@example.com>"),
        "subject": "Your order",
        "text": "Thank you.\n",
        "html": None,
    }
    return Draft(**(fields | changes))
