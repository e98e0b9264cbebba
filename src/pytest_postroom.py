"""The pytest plugin: fixtures of `postroom.testing`, for every project that has Postroom installed.

Pytest imports this whenever it starts, so it imports nothing else of Postroom: a project that uses
none of the fixtures pays for none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting ``postroom_strict``."""
    parser.addini(
        "postroom_strict",
        "fail a test that enqueues mail and never looks at it",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the strict mode if it is on."""
    if config.getini("postroom_strict"):
        from postroom.testing.plugin import StrictPlugin

        config.pluginmanager.register(StrictPlugin(), "postroom-strict")


@pytest.fixture
def outbox_mail(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The mail that this test enqueues, parsed; a `postroom.testing.OutboxMail`.

    What is rolled back disappears from it. Nothing is sent; see ``deliver_mail``.
    """
    from postroom.testing.plugin import recording_for

    with recording_for(request.node) as mail:
        yield mail


@pytest.fixture
def faulty_relay() -> Iterator[Any]:
    """A `postroom.testing.FaultyRelay`: it accepts every mail unless its script says otherwise."""
    from postroom.testing.faulty_relay import FaultyRelay

    with FaultyRelay() as relay:
        yield relay


@pytest.fixture
def deliver_mail(outbox_mail: Any, faulty_relay: Any) -> Any:
    """Deliver what this test has enqueued to ``faulty_relay``, and return what arrived.

    A function: each call runs a real worker until nothing is due, and returns a
    `postroom.testing.DeliveryResult`.
    """
    from postroom.testing.deliver import DeliverMail

    return DeliverMail(outbox_mail, faulty_relay)
