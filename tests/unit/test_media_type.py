"""Media types do not depend on the machine."""

from __future__ import annotations

import mimetypes

import pytest

from postroom.message.media_type import UNKNOWN, media_type_of_bytes, media_type_of_name


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
        (b"GIF89a\x01\0\x01\0", "image/gif"),
        (b"PK\x03\x04\x14\0\0\0\x08\0", "application/zip"),
        (b"just some words", UNKNOWN),
        (b"", UNKNOWN),
    ],
)
def test_the_bytes_decide_where_the_name_does_not(start: bytes, expected: str) -> None:
    assert media_type_of_bytes(start) == expected


def test_the_machine_s_own_table_does_not_change_the_common_types(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mimetypes, "guess_type", lambda name: ("application/x-surprise", None))
    assert media_type_of_name("a.csv") == "text/csv"
