"""Testing: relays and fixtures for the tests of applications, and of Postroom itself."""

from postroom.testing.faulty_relay import (
    Abilities,
    Accepted,
    FaultyRelay,
    Trouble,
    read_journal,
)

__all__ = ["Abilities", "Accepted", "FaultyRelay", "Trouble", "read_journal"]
