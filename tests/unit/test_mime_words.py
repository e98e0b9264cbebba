"""Encoded-words (RFC 2047)."""

from __future__ import annotations

import re
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.values.mime.words import encoded
from tests.mime.drafts import line
from tests.mime.rules import violations_of_word


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ihre Größe ist da", "=?utf-8?q?Ihre_Gr=C3=B6=C3=9Fe_ist_da?="),
        ("Größe", "=?utf-8?b?R3LDtsOfZQ==?="),
        ("日本語", "=?utf-8?b?5pel5pys6Kqe?="),
        ("a b", "=?utf-8?q?a_b?="),
        ("Größe? (_=)", "=?utf-8?b?R3LDtsOfZT8gKF89KQ==?="),
    ],
)
def test_the_shorter_of_q_and_base64_is_taken(text: str, words: str) -> None:
    assert encoded(text) == words


def test_words_are_split_at_spaces_for_readers_that_show_one_too_many() -> None:
    words = encoded("Александр Сергеевич Константинопольский").split(" ")

    texts = [str(make_header(decode_header(word))) for word in words]
    assert texts == ["Александр Сергеевич ", "Константинопольский"]


@given(line.filter(bool))
def test_words_are_short_hold_whole_characters_and_read_back(text: str) -> None:
    words = encoded(text)

    for word in words.split(" "):
        assert len(word) <= 75
        assert violations_of_word(word.encode()) == []
    assert str(make_header(decode_header(words.replace(" ", "\r\n ")))) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_word_holds_only_what_a_phrase_may_hold(text: str) -> None:
    for word in encoded(text).split(" "):
        assert re.fullmatch(r"=\?utf-8\?(q\?[A-Za-z0-9!*+/=_-]*|b\?[A-Za-z0-9+/=]*)\?=", word)
