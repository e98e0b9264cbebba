"""Encoded-words (RFC 2047)."""

from __future__ import annotations

import re
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.message.mime.fields import encoded_words
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
    assert encoded_words(text) == words


def test_words_are_split_at_spaces_for_readers_that_show_one_too_many() -> None:
    words = encoded_words("Мы получили ваш заказ и уже собираем его").split(" ")

    texts = [str(make_header(decode_header(word))) for word in words]
    assert texts == ["Мы получили ваш заказ", " и уже собираем его"]


@pytest.mark.parametrize(
    "text",
    [
        "Подтверждение бронирования и электронные билеты на поезд",
        "Re: 日本語の件名はとても長いので、いくつもの語に分けられます",
        "Επιβεβαίωση παραγγελίας και αποστολής από το κατάστημά μας",
        "🚀🎉 a🚀🎉é🚀🎉🚀🎉 Größe 🚀🎉🚀🎉🚀🎉🚀",
    ],
)
def test_base64_is_not_padded_where_another_word_follows(text: str) -> None:
    """GMime, in Evolution, Geary and notmuch, would show nothing of what follows."""
    first, *rest = encoded_words(text).split(" ")

    assert rest
    assert not any(word.endswith("=?=") for word in (first, *rest[:-1]) if "?b?" in word)
    assert str(make_header(decode_header(" ".join((first, *rest))))) == text


@given(line.filter(bool))
def test_words_are_short_hold_whole_characters_and_read_back(text: str) -> None:
    words = encoded_words(text)

    assert not re.search(r"\?b\?[^? ]*=\?= ", words)
    for word in words.split(" "):
        assert len(word) <= 75
        assert violations_of_word(word.encode()) == []
    assert str(make_header(decode_header(words.replace(" ", "\r\n ")))) == text


@given(st.lists(st.sampled_from(["a", " ", "é", "日", "🚀"]), min_size=1).map("".join))
def test_no_mixture_of_characters_needs_padding_or_a_split_one(text: str) -> None:
    words = encoded_words(text * 5)

    assert not re.search(r"\?b\?[^? ]*=\?= ", words)
    assert [found for word in words.split(" ") for found in violations_of_word(word.encode())] == []
    assert str(make_header(decode_header(words))) == text * 5


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_word_holds_only_what_a_phrase_may_hold(text: str) -> None:
    for word in encoded_words(text).split(" "):
        assert re.fullmatch(r"=\?utf-8\?(q\?[A-Za-z0-9!*+/=_-]*|b\?[A-Za-z0-9+/=]*)\?=", word)
