"""Quoted-printable (RFC 2045 section 6.7)."""

from __future__ import annotations

import quopri

import pytest
from hypothesis import given

from postroom.message.mime.encodings import encode_quoted_printable
from tests.mime.drafts import body
from tests.mime.rules import violations_of_leaf


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        (b"", b""),
        (b"plain\n", b"plain\r\n"),
        ("Größe\n".encode(), b"Gr=C3=B6=C3=9Fe\r\n"),
        (b"1 = 1", b"1 =3D 1"),
        (b"end \nend\t\nend ", b"end=20\r\nend=09\r\nend=20"),
        (b".\n..\n.a\n", b"=2E\r\n=2E.\r\n=2Ea\r\n"),
        (b"From me\nFrom\nfrom me\nFar\n", b"=46rom me\r\nFrom\r\nfrom me\r\nFar\r\n"),
        (b"\0\x07", b"=00=07"),
        (b"." * 76, b"=2E" + b"." * 72 + b"=\r\n=2E.."),
    ],
)
def test_what_transports_change_is_encoded(text: bytes, encoded: bytes) -> None:
    assert encode_quoted_printable(text) == encoded
    assert quopri.decodestring(encoded).replace(b"\r\n", b"\n") == text


@pytest.mark.parametrize("length", range(70, 160))
def test_dots_after_soft_breaks_are_encoded_at_every_length(length: int) -> None:
    for text in (
        b"." * length,
        b"a" * length + b"." * 80,
        b"a" * length + b"From me",
        b"." + b"a" * length + b"=.=.=." * 20,
    ):
        encoded = encode_quoted_printable(text)

        assert violations_of_leaf(b"quoted-printable", encoded) == []
        assert not any(line.startswith(b".") for line in encoded.split(b"\r\n"))
        assert quopri.decodestring(encoded) == text


@given(body)
def test_any_text_reads_back(text: str) -> None:
    octets = text.replace("\r\n", "\n").replace("\r", "\n").encode()
    encoded = encode_quoted_printable(octets)

    assert violations_of_leaf(b"quoted-printable", encoded) == []
    assert not any(line.startswith(b".") for line in encoded.split(b"\r\n"))
    assert quopri.decodestring(encoded).replace(b"\r\n", b"\n") == octets
