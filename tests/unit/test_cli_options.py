"""Durations and times as people type them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from postroom.cli.options import parse_duration, parse_time


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("15min", timedelta(minutes=15)),
        ("1.5h", timedelta(minutes=90)),
        ("30d", timedelta(days=30)),
        ("4W", timedelta(weeks=4)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, meant: timedelta) -> None:
    assert parse_duration(text) == meant


@pytest.mark.parametrize("text", ["", "30", "d", "-3d", "3 fortnights", "1d2h", "9" * 400 + "w"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="duration"):
        parse_duration(text)


def test_a_moment_with_a_zone_is_that_moment() -> None:
    assert parse_time("2026-01-31T09:30+02:00") == datetime(2026, 1, 31, 7, 30, tzinfo=UTC)


def test_a_moment_without_a_zone_is_of_this_machine() -> None:
    wanted = datetime(2026, 1, 31, 9, 30).astimezone()
    assert parse_time("2026-01-31T09:30") == wanted
    assert parse_time("2026-01-31 09:30").tzinfo is not None


def test_a_plus_counts_from_now() -> None:
    before = datetime.now(UTC)
    assert (
        before + timedelta(hours=2) <= parse_time("+2h") <= datetime.now(UTC) + timedelta(hours=2)
    )


@given(st.text())
def test_any_text_is_an_aware_moment_or_refused(text: str) -> None:
    with contextlib.suppress(typer.BadParameter):
        assert parse_time(text).tzinfo is not None
