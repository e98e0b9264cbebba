"""What may be written into a header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import AttachmentError, InvalidHeader
from postroom.message.headers import check_header, clean_pasted
from postroom.text import check_line

UNWRITABLE = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xD800)]


@pytest.mark.parametrize("text", ["", "plain", "Größe – 日本語 🚀", "a\u00a0b", "e\u0301"])
def test_printable_text_passes_as_it_is(text: str) -> None:
    assert check_line(text, "the subject") == text


@pytest.mark.parametrize(
    ("pasted", "seen"),
    [
        ("Order\tA-1001", "Order A-1001"),
        ("\tOrder \t \vA-1001\f", "Order A-1001"),
        ("Order\u2028A-1001\u2029", "Order A-1001"),
        ("Order\u00a0A-1001\u2003x", "Order\u00a0A-1001\u2003x"),
        ("  two  spaces ", "  two  spaces "),
        ("a\r\n\tb", "a\r\n b"),
        ("a\x1bb", "a\x1bb"),
    ],
)
def test_what_was_pasted_along_is_one_space_and_nothing_else_changes(
    pasted: str, seen: str
) -> None:
    assert clean_pasted(pasted) == seen


@pytest.mark.parametrize("character", UNWRITABLE, ids=ascii)
@pytest.mark.parametrize("around", ["{}", "a{}b", "é{}", "a{}"])
def test_controls_separators_and_lone_surrogates_are_refused(around: str, character: str) -> None:
    with pytest.raises(InvalidHeader, match=f"U\\+{ord(character):04X}"):
        check_line(around.format(character), "the subject")


def test_an_error_says_what_where_and_what_to_do() -> None:
    with pytest.raises(AttachmentError) as error:
        check_line("a\r\nBcc: eve@example.com", "a file name", AttachmentError)

    assert str(error.value) == (
        "expected a file name to be one line of printable text, "
        r"got: 'a\r\nBcc: eve@example.com' (U+000D at position 1; remove it)"
    )


@pytest.mark.parametrize("value", [None, b"bytes", 7])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidHeader, match="the subject must be text"):
        check_line(value, "the subject")  # type: ignore[arg-type]


def test_a_custom_header_is_returned() -> None:
    assert check_header("X-Order", "Bücher 17") == ("X-Order", "Bücher 17")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "X Order",
        "X-Order:",
        "X-Örder",
        "X-Order\r\nBcc",
        "X\n",
        "x" * 77,
        "\ud800",
        ".X",
        ".Subject",
    ],
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidHeader):
        check_header(name, "value")


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("Bcc", "pass bcc="),
        ("to", "pass to="),
        ("CC", "pass cc="),
        ("From", "set sender="),
        ("Subject", "set subject="),
        ("reply-to", "set reply_to="),
        ("Return-Path", "set envelope_sender="),
        ("Message-ID", "leave it out"),
        ("Date", "leave it out"),
        ("MIME-Version", "leave it out"),
        ("Received", "leave it out"),
        ("Content-Type", "leave it out"),
        ("content-transfer-encoding", "leave it out"),
    ],
)
def test_what_postroom_writes_itself_is_refused_with_the_way_to_set_it(
    name: str, instead: str
) -> None:
    with pytest.raises(InvalidHeader, match=instead):
        check_header(name, "value")


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\x7f", "\x85", "\u2028", "\udcff"])
def test_a_value_that_could_end_a_line_is_refused(character: str) -> None:
    with pytest.raises(InvalidHeader, match="the header X-Order"):
        check_header("X-Order", f"17{character}Bcc: eve@example.com")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("In-Reply-To", "<a@example.com>"),
        ("References", "<a@example.com> <b@example.com>"),
        ("List-Unsubscribe", "<https://example.com/u?id=1>, <mailto:u@example.com> (gladly)"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ("List-ID", "Neuigkeiten für alle <news.example.com>"),
        ("List-ID", "news.example.com"),
        ("Auto-Submitted", "auto-replied"),
        ("Importance", "high"),
        ("Sender", "Ann <ann@example.com>"),
    ],
)
def test_structured_headers_that_keep_their_syntax_pass(name: str, value: str) -> None:
    assert check_header(name, value) == (name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("In-Reply-To", "a@example.com"),
        ("References", "<a@example.com>, <b@example.com>"),
        ("References", "<a@exa mple.com>"),
        ("List-Unsubscribe", "<https://example.com/ü>"),
        ("List-Unsubscribe", "<mailto:u@example.com> (\u2028Bcc: eve@example.com)"),
        ("List-Unsubscribe", f"<https://example.com/{'u' * 1000}>"),
        ("List-ID", "News <bücher.example>"),
        ("Auto-Submitted", ""),
        ("Importance", "höchste"),
        ("List-ID", f"News <{'n' * 1200}.example>"),
        ("Resent-To", "ann@example.com " + "x" * 1000),
    ],
)
def test_structured_headers_that_would_break_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidHeader):
        check_header(name, value)


@given(st.text())
def test_any_text_is_one_line_or_an_error_of_ours(text: str) -> None:
    try:
        checked = check_line(text, "the subject")
    except InvalidHeader:
        return
    assert checked == text
    assert len(text.splitlines()) <= 1
    assert "\0" not in text
    assert text.encode().decode() == text
