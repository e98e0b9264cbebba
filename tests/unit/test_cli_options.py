"""Durations and times as people type them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from postroom.cli.options import parse_duration, parse_time


def test_a_duration_is_read_as_everywhere() -> None:
    assert parse_duration("30d") == timedelta(days=30)


@pytest.mark.parametrize("text", ["30", "1d2h", "999999999999w"])
def test_what_is_no_duration_is_refused_with_what_was_typed(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"must be a duration .*, not '{text}'"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["tomorrow", "+999999w"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="must be a time such as 2026-01-31T09:30"):
        parse_time(text)


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
