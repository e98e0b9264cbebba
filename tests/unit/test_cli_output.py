"""What is printed cannot steer a terminal, and JSON holds what the tables show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.cli.output import echo, grid, print_error, print_json, to_plain
from postroom.states import RecipientState
from postroom.text import safe_for_terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class Something:
    state: RecipientState
    at: datetime
    tags: tuple[str, ...]


def test_json_of_a_result_has_its_fields_times_in_iso_8601() -> None:
    found = Something(
        state=RecipientState.QUEUED, at=datetime(2026, 1, 31, 9, 30, tzinfo=UTC), tags=("a",)
    )
    assert to_plain([found]) == [
        {"state": "queued", "at": "2026-01-31T09:30:00+00:00", "tags": ["a"]}
    ]


def test_json_is_printed_alone(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({RecipientState.QUEUED: 1})
    assert capsys.readouterr().out == '{\n  "queued": 1\n}\n'


@given(st.text())
def test_no_text_steers_the_terminal(text: str) -> None:
    assert "".join(safe_for_terminal(text).split("\n")).isprintable()


def test_a_table_that_is_piped_is_plain_and_unbroken(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    echo(grid(["state", ">count", "reply"], [(RecipientState.REJECTED, 12_000, f"[red]{long}")]))
    assert capsys.readouterr().out.splitlines() == [
        f"state      count  reply{' ' * (len(long))}",
        f"rejected  12,000  [red]{long}",
    ]


def test_an_error_takes_two_lines_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("one\ntwo")
    print_error("\n".join(f"address {n}" for n in range(4)))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "postroom: one",
        "two",
        "postroom: address 0; address 1; address 2; address 3",
    ]
