"""Durations and rates, written by people and read by them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.duration import human_duration, parse_duration_s, parse_rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("90s", 90),
        ("15m", 900),
        ("15min", 900),
        ("1.5h", 5400),
        (" 2 h ", 7200),
        ("30d", 2_592_000),
        ("4W", 2_419_200),
        ("0s", 0),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "d", "-3d", "3 fortnights", "1d2h", "1e3s", "inf", "9" * 400 + "w", "٣s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as 30s, 5m, 2h or 30d"):
        parse_duration_s(text)


def test_a_number_alone_is_read_where_its_unit_is_known() -> None:
    assert parse_duration_s("9", default_unit="s") == 9
    assert parse_duration_s("9m", default_unit="s") == 540


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20/s", (20, 1)), ("100/m", (100, 60)), ("100/min", (100, 60)), ("2000/h", (2000, 3600)),
     ("5/d", (5, 86_400)), ("9/W", (9, 604_800))],
)  # fmt: skip
def test_a_rate_is_a_count_and_a_unit(text: str, rate: tuple[int, float]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "20", "20/", "/s", "0/s", "-1/s", "1.5/s", "20/fortnight"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="a rate such as 20/s, 100/min or 2000/h"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("duration_s", "said"),
    [(0.4, "0 s"), (90, "90 s"), (180, "3 min"), (18_000, "5 h"), (200_000, "2 d")],
)
def test_durations_are_said_as_people_do(duration_s: float, said: str) -> None:
    assert human_duration(duration_s) == said


@given(st.floats(min_value=0, max_value=10_000 * 86_400))
def test_what_is_said_is_read_back_within_half_a_unit(duration_s: float) -> None:
    said = human_duration(duration_s)
    half_s = parse_duration_s("1" + said.split()[1]) / 2
    assert abs(parse_duration_s(said) - duration_s) <= half_s + 1e-6


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_duration_s(text) < float("inf")
