"""What a process remembers of a relay's refusals."""

from __future__ import annotations

import logging

import pytest

from postroom.relays.discovered_limits import DiscoveredLimits
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay
from tests.clock import Clock

URL = "smtp://relay.example.com?tls=off"


def test_a_relay_that_refuses_early_commands_is_spoken_to_without_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = DiscoveredLimits(Relay.parse(URL), clock=Clock())
    assert limits.relay.pipelining is Pipelining.FULL
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            limits.record(refuses_early=True, max_recipients=None)
    assert limits.relay.pipelining is Pipelining.TRANSACTION
    [record] = caplog.records
    assert "pipelining=transaction" in record.getMessage()


def test_what_the_url_says_is_never_made_bolder() -> None:
    limits = DiscoveredLimits(Relay.parse(f"{URL}&pipelining=off"), clock=Clock())
    limits.record(refuses_early=True, max_recipients=None)
    assert limits.relay.pipelining is Pipelining.OFF


def test_the_smaller_of_two_limits_of_recipients_holds() -> None:
    limits = DiscoveredLimits(Relay.parse(URL), clock=Clock())
    assert limits.max_recipients(None) is None
    assert limits.max_recipients(100) == 100
    limits.record(refuses_early=False, max_recipients=10)
    assert limits.max_recipients(None) == 10
    assert limits.max_recipients(100) == 10
    assert limits.max_recipients(5) == 5


def test_a_limit_of_recipients_is_forgotten_after_an_hour() -> None:
    clock = Clock()
    limits = DiscoveredLimits(Relay.parse(URL), clock=clock)
    limits.record(refuses_early=False, max_recipients=1)
    clock.now = 3599
    assert limits.max_recipients(None) == 1
    clock.now = 3600
    assert limits.max_recipients(None) is None
