"""How much a worker claims ahead."""

from __future__ import annotations

from postroom.delivery.claims import Prefetch


def test_a_new_worker_claims_a_little() -> None:
    assert Prefetch(most=500, now=0).available(0) == 16


def test_a_fast_relay_earns_large_claims() -> None:
    prefetch = Prefetch(most=500, now=0)
    for second in range(1, 4):
        prefetch.record(10_000, now=float(second))
    assert prefetch.available(0) == 500


def test_a_slow_relay_is_given_about_a_second_of_work() -> None:
    prefetch = Prefetch(most=500, now=0)
    for tenth in range(1, 100):
        prefetch.record(5, now=tenth / 10)
    assert 40 <= prefetch.available(0) <= 60


def test_nothing_is_claimed_until_a_quarter_has_gone_out() -> None:
    prefetch = Prefetch(most=500, now=0)
    assert prefetch.available(13) == 0
    assert prefetch.available(12) == 4
