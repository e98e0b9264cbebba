"""What a relay announced."""

from __future__ import annotations

import pytest

from postroom.smtp.capabilities import Capabilities
from postroom.smtp.reply import Reply


def announced(*lines: str) -> Capabilities:
    return Capabilities.parse(Reply(code=250, lines=("relay.example greets you", *lines)))


def test_every_extension_we_use_is_found() -> None:
    found = announced(
        "PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "STARTTLS", "AUTH PLAIN LOGIN"
    )
    assert found.has_pipelining
    assert found.has_size
    assert found.has_8bitmime
    assert found.has_smtputf8
    assert found.has_dsn
    assert found.has_starttls
    assert found.auth_mechanisms == {"PLAIN", "LOGIN"}
    assert found.size_bytes == 1000


def test_nothing_is_announced_without_being_said() -> None:
    assert announced() == Capabilities()


def test_the_welcome_is_no_extension() -> None:
    assert not Capabilities.parse(Reply(code=250, lines=("PIPELINING",))).has_pipelining


@pytest.mark.parametrize("line", ["pipelining", "Pipelining", " PIPELINING "])
def test_keywords_are_read_in_any_case(line: str) -> None:
    assert announced(line).has_pipelining


@pytest.mark.parametrize("line", ["SIZE", "SIZE 0", "SIZE many", "SIZE -1", f"SIZE {'9' * 30}"])
def test_a_size_that_limits_nothing_is_no_limit(line: str) -> None:
    assert announced(line).has_size
    assert announced(line).size_bytes is None


def test_mechanisms_announced_in_the_old_form_are_found_too() -> None:
    assert announced("AUTH LOGIN", "AUTH=PLAIN LOGIN").auth_mechanisms == {"PLAIN", "LOGIN"}


def test_limits_are_read() -> None:
    found = announced("LIMITS RCPTMAX=50 MAILMAX=100 OTHER=x")
    assert (found.max_recipients, found.max_messages) == (50, 100)
