"""Flask-Mail's settings, read as a relay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import ConfigError, InvalidAddress
from postroom.integrations.flask.config import mail_relay, mail_sender
from postroom.message.address import Address
from postroom.relays.options import TlsMode
from postroom.relays.relay import Relay

LOGIN = {"MAIL_USERNAME": "shop", "MAIL_PASSWORD": "s3:c/r@t(e)t%"}


def relay(**config: Any) -> Relay:
    url = mail_relay(config)
    assert url is not None
    return Relay.parse(url)


def test_without_a_server_there_is_no_relay() -> None:
    assert mail_relay({"MAIL_PORT": 587, "MAIL_USE_TLS": True}) is None


@pytest.mark.parametrize(
    ("config", "scheme", "port", "tls"),
    [
        ({}, "smtp", 25, TlsMode.OPPORTUNISTIC),
        ({"MAIL_PORT": "2525"}, "smtp", 2525, TlsMode.OPPORTUNISTIC),
        ({"MAIL_USE_TLS": True, "MAIL_PORT": 587}, "smtp", 587, TlsMode.REQUIRED),
        ({"MAIL_USE_SSL": True}, "smtps", 465, TlsMode.REQUIRED),
        ({"MAIL_USE_SSL": True, "MAIL_PORT": 4650}, "smtps", 4650, TlsMode.REQUIRED),
        # Flask-Mail would show the password to whoever listens.
        ({"MAIL_PORT": 587, **LOGIN}, "smtp", 587, TlsMode.REQUIRED),
    ],
)
def test_a_server_is_spoken_to_as_safely_as_it_can_be(
    config: dict[str, Any], scheme: str, port: int, tls: TlsMode
) -> None:
    found = relay(MAIL_SERVER="smtp.example.com", **config)
    assert (found.scheme, found.host, found.port) == (scheme, "smtp.example.com", port)
    assert found.tls is tls
    assert not found.auth_over_clear


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_password_may_travel_within_this_machine(host: str) -> None:
    found = relay(MAIL_SERVER=host, **LOGIN)
    assert found.tls is TlsMode.OPPORTUNISTIC
    assert found.auth_over_clear
    assert found.host == host


@given(username=st.text(min_size=1).filter(str.isprintable))
def test_any_login_survives(username: str) -> None:
    login = {"MAIL_USERNAME": username, "MAIL_PASSWORD": f"p{username}"}
    found = relay(MAIL_SERVER="smtp.example.com", **login)
    assert found.username == username
    assert found.password is not None
    assert found.password.reveal() == "p" + username


def test_half_a_login_is_none() -> None:
    assert not relay(MAIL_SERVER="smtp.example.com", MAIL_USERNAME="shop").has_login


def test_a_connection_ends_after_so_many_mails() -> None:
    found = relay(MAIL_SERVER="smtp.example.com", MAIL_MAX_EMAILS=20)
    assert found.max_messages_per_connection == 20


@pytest.mark.parametrize("name", ["MAIL_PORT", "MAIL_MAX_EMAILS"])
def test_what_is_no_number_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"expected {name} to be a number, got: 'many'"):
        relay(MAIL_SERVER="smtp.example.com", **{name: "many"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("shop@example.com", Address("shop@example.com")),
        (
            "Shop <shop@example.com>",
            Address("Shop <shop@example.com>"),
        ),
        (
            ('Tea & "Co", Ltd.', "shop@example.com"),
            Address.from_parts(local="shop", domain="example.com", name='Tea & "Co", Ltd.'),
        ),
        ((None, "shop@example.com"), Address("shop@example.com")),
    ],
)
def test_the_sender_is_a_text_or_a_pair(given: Any, expected: Address) -> None:
    text = mail_sender({"MAIL_DEFAULT_SENDER": given})
    assert text is not None
    assert Address(text) == expected


def test_a_sender_that_is_none_is_refused() -> None:
    assert mail_sender({}) is None
    with pytest.raises(InvalidAddress):
        mail_sender({"MAIL_DEFAULT_SENDER": "nobody"})
