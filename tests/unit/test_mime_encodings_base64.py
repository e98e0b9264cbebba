"""Base64 of a stream."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.message.mime.encodings import encode_base64, encoded_size


@given(st.lists(st.binary(max_size=200)))
def test_however_the_octets_arrive_they_are_encoded_alike(chunks: list[bytes]) -> None:
    octets = b"".join(chunks)

    assert b"".join(encode_base64(chunks)) == base64.encodebytes(octets).replace(b"\n", b"\r\n")


@given(st.integers(0, 2000))
def test_the_size_is_known_without_reading(size: int) -> None:
    assert encoded_size(size) == sum(map(len, encode_base64([bytes(size)])))


@pytest.mark.parametrize("size", [0, 1, 57, 58, 57 * 3360, 57 * 3360 + 1, 1 << 20])
@pytest.mark.parametrize("chunk_bytes", [1 << 18, 100_003])
def test_pieces_are_whole_lines_of_at_most_256_kib(size: int, chunk_bytes: int) -> None:
    octets = bytes(range(256)) * (size // 256 + 1)
    chunks = [
        octets[start : min(start + chunk_bytes, size)] for start in range(0, size, chunk_bytes)
    ]
    pieces = list(encode_base64(chunks))

    assert all(len(piece) <= 1 << 18 and piece.endswith(b"\r\n") for piece in pieces)
    assert base64.b64decode(b"".join(pieces)) == octets[:size]
