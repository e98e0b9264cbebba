"""When to try again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.delivery.outcomes import DEFAULT_SCHEDULE, RetrySchedule
from postroom.errors import ConfigError
from postroom.smtp.reply import requested_delay_s

DAY_S = 86_400


def middle() -> float:
    return 0.5


def test_the_default_waits_longer_each_time_and_gives_up_after_three_days() -> None:
    delays = DEFAULT_SCHEDULE.delays_s
    assert delays[:7] == (60, 300, 900, 1800, 3600, 7200, 14_400)
    assert list(delays) == sorted(delays)
    assert 2.9 * DAY_S < sum(delays) <= 3 * DAY_S


def test_without_jitter_the_schedule_is_kept_exactly() -> None:
    schedule = RetrySchedule(delays_s=(1, 2, 3), jitter=0)
    assert [schedule.delay_s(tries, random.random) for tries in range(5)] == [1, 2, 3, None, None]


@given(st.integers(0, 22), st.floats(0, 1, exclude_max=True))
def test_jitter_moves_a_delay_by_a_fifth_at_most(tries: int, chance: float) -> None:
    planned = DEFAULT_SCHEDULE.delays_s[tries]
    delay = DEFAULT_SCHEDULE.delay_s(tries, lambda: chance)
    assert delay is not None
    assert 0.8 * planned <= delay <= 1.2 * planned


def test_jitter_spreads_evenly_around_the_plan() -> None:
    assert DEFAULT_SCHEDULE.delay_s(0, middle) == 60


def test_an_empty_schedule_never_tries_again() -> None:
    assert RetrySchedule(delays_s=()).delay_s(0, middle) is None


@pytest.mark.parametrize(("delays", "jitter"), [((-1,), 0.2), ((1,), 1.0), ((1,), -0.1)])
def test_a_schedule_nobody_could_keep_is_refused(delays: tuple[float, ...], jitter: float) -> None:
    with pytest.raises(ConfigError, match="expected retry"):
        RetrySchedule(delays_s=delays, jitter=jitter)


@pytest.mark.parametrize(
    ("text", "delay_s"),
    [
        ("4.7.1 Greylisted, please try again in 300 seconds", 300),
        ("Greylisted for 5 minutes", 300),
        ("example.com greylisted for 60 seconds by ZEROSPAM", 60),
        ("Please come back in 00:05:00", 300),
        ("Please retry after 01:30", 90),
        ("please wait 2 mins and try again", 120),
        ("Try again in 1 hour", 3600),
        ("throttled, retry in 10s", 10),
        ("TRY AGAIN IN 30 SECS", 30),
        ("deferred; retry in 7 days", DAY_S),
        ("try again in 0 seconds", 1),
    ],
)
def test_a_delay_that_is_asked_for_is_understood(text: str, delay_s: float) -> None:
    assert requested_delay_s(text) == delay_s


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Greylisted, try again later",
        "Mailbox full",
        "500 messages per hour",
        "Server busy. Please try again later from [10.20.30.40]. (AS77712344)",
        "try again later - https://support.apple.com/en-us/HT204137",
        "please visit https://example.com/60s for details",
        "the message has 300 recipients",
    ],
)
def test_where_no_delay_is_asked_for_none_is_invented(text: str) -> None:
    assert requested_delay_s(text) is None


@given(st.text(max_size=400))
def test_a_hint_is_between_a_second_and_a_day(text: str) -> None:
    delay_s = requested_delay_s("try again in " + text)
    assert delay_s is None or 1 <= delay_s <= DAY_S
