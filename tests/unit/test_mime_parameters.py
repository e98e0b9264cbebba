"""File names in Content-Disposition (RFC 2183, RFC 2231)."""

from __future__ import annotations

from email.headerregistry import HeaderRegistry

import pytest
from hypothesis import given

from postroom.errors import MessageError
from postroom.message.attachment import Attachment
from postroom.message.mime.parts import disposition_field
from tests.mime.drafts import file_names


def test_an_ascii_name_is_quoted() -> None:
    assert disposition_field("attachment", "my report.csv") == (
        'Content-Disposition: attachment;\r\n filename="my report.csv"\r\n'
    )


def test_a_name_beyond_ascii_has_an_ascii_name_beside_it() -> None:
    assert disposition_field("attachment", "Größe.xlsx") == (
        "Content-Disposition: attachment;\r\n"
        " filename*=utf-8''Gr%C3%B6%C3%9Fe.xlsx;\r\n"
        ' filename="Groe.xlsx"\r\n'
    )


@pytest.mark.parametrize(
    ("name", "fallback"),
    [
        ("日本語.pdf", "attachment.pdf"),
        ("Résumé", "Resume"),
        ('say "hi".txt', "say _hi_.txt"),
        ("back\\slash.txt", "back_slash.txt"),
        ("x" * 80 + ".csv", "x" * 50 + ".csv"),
        ("=?utf-8?q?x?=.txt", "__utf-8_q_x__.txt"),
        ("名.日本", "attachment"),
        ("%41.txt€", "_41.txt"),
    ],
)
def test_the_ascii_name_keeps_what_it_can(name: str, fallback: str) -> None:
    assert disposition_field("attachment", name).endswith(f'filename="{fallback}"\r\n')


def test_a_long_name_is_continued_on_whole_characters() -> None:
    lines = disposition_field("inline", "日本語" * 20 + ".png").split("\r\n")

    assert [line.split("=")[0] for line in lines[1:4]] == [
        " filename*0*",
        " filename*1*",
        " filename*2*",
    ]
    assert all(len(line) <= 76 for line in lines)


@given(file_names)
def test_any_name_reads_back(name: str) -> None:
    field = disposition_field("attachment", name)

    assert field.isascii()
    assert all(len(line) <= 76 for line in field.split("\r\n"))
    value = field.partition(": ")[2].replace("\r\n", "")
    assert HeaderRegistry()("Content-Disposition", value).params["filename"] == name


@pytest.mark.parametrize(
    "around", ["text/csv;{}x=y", "text/csv{};x=y", "{}text/csv", 'a/b; c="{}"']
)
@pytest.mark.parametrize("character", ["\n", "\r\n", "\r\n\r\n", "\0", "\t"])
def test_a_media_type_cannot_end_its_line(around: str, character: str) -> None:
    with pytest.raises(MessageError):
        Attachment.from_bytes("a.csv", b"", content_type=around.format(character))
