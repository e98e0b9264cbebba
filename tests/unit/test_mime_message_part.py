"""Messages attached to messages (RFC 2046 section 5.2.1)."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest

from postroom.message.message import Draft
from postroom.message.mime import compose
from tests.mime.drafts import TOKEN, attached_message, draft, part
from tests.mime.rules import violations

PLAIN = attached_message("Forwarded\n")


def forwarding(octets: bytes, *, chunk_bytes: int = 1 << 18) -> Draft:
    return draft(
        attachments=(part(octets, content_type="message/rfc822", chunk_bytes=chunk_bytes),)
    )


def written(forward: Draft) -> bytes:
    content = compose(forward)
    tail = b"".join(content.tail())
    assert len(tail) == content.tail_size_bytes
    raw = content.head(to=None, message_id="<a@example.com>") + tail
    assert violations(raw) == []
    return raw


def attached(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    part = next(iter(message.iter_attachments()))
    assert isinstance(part, EmailMessage)
    return part


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 100, 1 << 18])
def test_a_message_that_fits_is_written_octet_for_octet(chunk_bytes: int) -> None:
    raw = written(forwarding(PLAIN, chunk_bytes=chunk_bytes))

    assert b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n" in raw
    assert b"\r\n\r\n" + PLAIN + b"\r\n--" in raw


def test_lines_that_end_in_lf_get_their_crlf() -> None:
    assert b"\r\n\r\n" + PLAIN + b"\r\n--" in written(forwarding(PLAIN.replace(b"\r\n", b"\n")))


def test_a_last_line_without_an_end_gets_one() -> None:
    assert b"Forwarded\r\n\r\n--" in written(forwarding(PLAIN.removesuffix(b"\r\n")))


@pytest.mark.parametrize(
    "text",
    ["Größe\n", ".dot\n..\n", "From here on\n", "x" * 5000 + "\n", f"--=_{TOKEN}.m\n"],
    ids=ascii,
)
@pytest.mark.parametrize("is_html", [False, True])
def test_a_message_that_does_not_fit_has_its_parts_encoded(text: str, is_html: bool) -> None:
    original = EmailMessage()
    original["Subject"] = "Inner"
    original["X-Long"] = "word " * 50
    original.set_content(text, cte="8bit")
    if is_html:
        original.add_alternative(f"<p>{text}", subtype="html", cte="8bit")

    part = attached(written(forwarding(original.as_bytes(policy=email.policy.SMTP))))
    inner = part.get_content()

    assert part.get_content_type() == "message/rfc822"
    assert inner["Subject"] == "Inner"
    assert inner.get_body(("plain",)).get_content().replace("\r\n", "\n") == text
    if is_html:
        assert inner.get_body(("html",)).get_content().replace("\r\n", "\n") == f"<p>{text}"


@pytest.mark.parametrize(
    "octets",
    [
        "Subject: Größe\r\n\r\nText\r\n".encode(),
        b"Subject: bare\rCR\r\n\r\nText\r\n",
        b"X-Long: " + b"x" * 1000 + b"\r\n\r\nText\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n.preamble\r\n--b\r\n\r\nx\r\n--b--\r\n",
    ],
)
def test_what_cannot_be_written_as_a_message_travels_as_a_file(octets: bytes) -> None:
    part = attached(written(forwarding(octets)))

    assert part.get_content_type() == "application/octet-stream"
    assert part.get_content() == octets


def test_a_part_that_others_encoded_carelessly_is_encoded_anew() -> None:
    octets = (
        b"Subject: Inner\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nFrom M=C3=BCnchen\r\n.\r\n"
    )
    inner = attached(written(forwarding(octets))).get_content()

    assert inner.get_content().splitlines() == ["From München", "."]


def test_the_first_line_of_a_mailbox_does_not_travel() -> None:
    octets = b"From ann Thu Jan  1 00:00:00 1970\r\n" + PLAIN
    inner = attached(written(forwarding(octets))).get_content()

    assert inner["Subject"] == "Inner"
    assert inner.get_unixfrom() is None


def nested(levels: int) -> bytes:
    """Return a message of multiparts within each other, around a text that must be encoded."""
    head = "".join(
        f'Content-Type: multipart/mixed; boundary="b{level}"\r\n\r\n--b{level}\r\n'
        for level in range(levels)
    )
    tail = "".join(f"\r\n--b{level}--\r\n" for level in reversed(range(levels)))
    return f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\nGröße\r\n{tail}".encode()


@pytest.mark.parametrize(
    ("levels", "content_type"),
    [(90, "message/rfc822"), (300, "application/octet-stream"), (5000, "application/octet-stream")],
)
def test_a_message_nested_too_deeply_travels_as_a_file(levels: int, content_type: str) -> None:
    raw = written(forwarding(nested(levels)))

    assert f"\r\nContent-Type: {content_type}\r\n".encode() in raw


def test_another_type_that_may_not_be_encoded_travels_as_a_file_if_it_must() -> None:
    fits = part(b"Reporting-MTA: dns; example.com\r\n", content_type="message/delivery-status")
    does_not = part("Größe\r\n".encode(), content_type="message/delivery-status")
    raw = written(draft(attachments=(fits, does_not)))

    assert raw.count(b"Content-Type: message/delivery-status\r\n") == 1
    assert raw.count(b"Content-Type: application/octet-stream\r\n") == 1


def test_an_empty_message_is_no_trouble() -> None:
    assert b"Content-Type: message/rfc822\r\n" in written(forwarding(b""))
