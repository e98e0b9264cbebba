"""Relays from URLs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import ConfigError
from postroom.relays.options import OPTIONS, TIMEOUTS, AuthMechanism, Rate, TlsMode
from postroom.relays.relay import Relay, Timeouts
from postroom.relays.url import masked


def test_a_url_says_it_all() -> None:
    relay = Relay.parse(
        "smtp://apikey:s3cret@smtp.example.com:2525?name=main&tls=required&min_tls=1.3&ca=ca.pem"
        "&cert=me.pem&key=me.key&auth=plain&ehlo=shop.example.com&source=192.0.2.1&connections=8"
        "&rate=20/s&domain_rate=100/m&max_messages=50&idle=5s&connect_timeout=10s"
        "&command_timeout=1m&body_timeout=90&dot_timeout=10m&session_timeout=1h"
    )
    assert relay.password is not None
    assert relay.password.reveal() == "s3cret"
    assert (relay.name, relay.host, relay.port) == ("main", "smtp.example.com", 2525)
    assert (relay.username, relay.auth) == ("apikey", AuthMechanism.PLAIN)
    assert (relay.tls, relay.min_tls) == (TlsMode.REQUIRED, "1.3")
    assert (relay.ca, relay.cert, relay.key) == ("ca.pem", "me.pem", "me.key")
    assert (relay.ehlo_name, relay.source_address) == ("shop.example.com", "192.0.2.1")
    assert (relay.connections, relay.max_messages_per_connection) == (8, 50)
    assert relay.rate == Rate(count=20, period_s=1)
    assert relay.domain_rate == Rate(count=100, period_s=60)
    assert relay.idle_s == 5
    assert relay.timeouts == Timeouts(
        connect_s=10, command_s=60, body_s=90, dot_s=600, session_s=3600
    )


@pytest.mark.parametrize(
    ("url", "port", "tls"),
    [
        ("smtp://relay.example", 25, TlsMode.REQUIRED),
        ("smtp://user:password@relay.example", 587, TlsMode.REQUIRED),
        ("smtps://relay.example", 465, TlsMode.REQUIRED),
        ("lmtp://relay.example", 24, TlsMode.REQUIRED),
        ("lmtp:///run/dovecot/lmtp", 24, TlsMode.OFF),
        ("smtp://relay.example:26?tls=off", 26, TlsMode.OFF),
        ("smtp://relay.example?tls=Opportunistic", 25, TlsMode.OPPORTUNISTIC),
    ],
)
def test_what_is_left_out_is_sensible(url: str, port: int, tls: TlsMode) -> None:
    relay = Relay.parse(url)
    assert (relay.port, relay.tls) == (port, tls)


def test_a_unix_socket_is_a_path() -> None:
    relay = Relay.parse("lmtp:///run/dovecot/lmtp")
    assert relay.is_lmtp
    assert (relay.host, relay.path, relay.name) == ("", "/run/dovecot/lmtp", "/run/dovecot/lmtp")


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert Relay.parse("smtp://[2001:db8::1]:2525").host == "2001:db8::1"


def test_a_host_in_any_script_becomes_ascii() -> None:
    assert Relay.parse("smtp://bücher.example").host == "xn--bcher-kva.example"


def test_special_characters_in_a_password_are_percent_encoded() -> None:
    relay = Relay.parse("smtp://user%40example.com:p%40ss%3A%2F%23%3F%25@relay.example")
    assert relay.password is not None
    assert relay.username == "user@example.com"
    assert relay.password.reveal() == "p@ss:/#?%"


def test_what_is_given_beside_the_url_wins() -> None:
    relay = Relay.parse("smtp://user@relay.example", name="main", password=lambda: "from a vault")
    assert relay.name == "main"
    assert relay.password is not None
    assert relay.password.reveal() == "from a vault"


def test_a_token_stands_for_a_password() -> None:
    relay = Relay.parse("smtp://user@relay.example", token=lambda: "ya29.token")
    assert relay.token is not None
    assert relay.token() == "ya29.token"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://relay.example?conections=4", "did you mean connections?"),
        ("smtp://relay.example?colour=red", "known are name, tls,"),
        ("smtp://relay.example?tls=maybe", "one of required, opportunistic, off"),
        ("smtp://relay.example?connections=0", "a whole number from 1"),
        ("smtp://relay.example?connections=many", "a whole number from 1"),
        ("smtp://relay.example?idle=soon", "a duration such as 30s"),
        ("smtp://relay.example?idle=0s", "a duration above 0"),
        ("smtp://relay.example?rate=20", "a rate such as 20/s"),
        ("smtp://relay.example?rate=0/s", "a rate such as 20/s"),
        ("smtp://relay.example?min_tls=1.1", "1.2 or 1.3"),
        ("smtp://relay.example?tls=off&tls=required", "given twice"),
        ("smtp://relay.example?tls", "options of a relay URL"),
        ("smtp://relay.example?key=me.key", "key= needs cert="),
        ("smtps://relay.example?tls=off", "smtps:// needs tls=required"),
        ("smtp://relay.example:0", "a whole number from 1 to 65535"),
        ("smtp://relay.example:66000", "a relay URL must be like"),
        ("smtp://", "a relay URL must be like"),
        ("smtp:///path", "a relay URL must be like"),
        ("lmtp://", "a relay URL must be like"),
        ("lmtp://host/path", "a relay URL must be like"),
        ("http://relay.example", "begin with one of smtp://, smtps://, lmtp://"),
        ("relay.example:25", "begin with one of"),
        ("", "begin with one of"),
        ("smtp://relay.example\n", "a control character"),
        ("smtp://relay.example?ehlo=a%0d%0aMAIL", "a control character"),
        ("smtp://re..lay.exämple", "a relay's host must be a domain"),
        ("smtp://user@relay.example", "a password or a token"),
        ("smtp://relay.example?auth=plain", "needs a user name"),
        ("smtp://user:pass@relay.example?tls=off", "auth_over_clear=yes"),
        ("smtp://user:pass@relay.example?tls=opportunistic", "auth_over_clear=yes"),
        (f"smtp://relay.example?name={'n' * 65}", "1 to 64 characters"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(url: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Relay.parse(url)
    assert expected in str(refused.value)


def test_credentials_may_go_over_clear_text_where_that_is_said() -> None:
    assert Relay.parse("smtp://u:p@relay.example?tls=off&auth_over_clear=yes").auth_over_clear


def test_a_secret_shows_in_no_text() -> None:
    relay = Relay.parse("smtp://user:hunter2@relay.example", token=lambda: "hunter2")
    for text in (repr(relay), str(relay), f"{relay.password}", f"{relay.password!r}"):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    "url",
    [
        "smtp://user:hunter2@relay.example:port",
        "smtp://user:hunter2#x@relay.example",
        "smtp://user:hunter2/x@relay.example",
        "smtp://user:hunter2@x@relay.example",
        "smtp://user:hunter2@relay.example:0",
        "smtp://user:hunter2@relay.example?tls=off",
        "smtp://user:hunter2@relay.example?wrong=1",
        "http://user:hunter2@relay.example",
        "user:hunter2@relay.example",
        "smtp://user:hunter2\x00@relay.example",
        "smtp://user:hunter2@",
    ],
)
def test_no_error_about_a_url_shows_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Relay.parse(url)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(refused.value.__cause__)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_masked_url_hides_everything_before_the_host(user: str, password: str) -> None:
    assert masked(f"smtp://{user}:{password}@relay.example?x=1") == "smtp://***@relay.example"


@given(st.text(max_size=60))
def test_any_text_is_a_relay_or_a_config_error(text: str) -> None:
    for url in (text, f"smtp://{text}", f"smtp://relay.example?{text}"):
        try:
            Relay.parse(url)
        except ConfigError as error:
            assert 0 < len(str(error)) < 1500  # noqa: PT017 - most texts are refused


def test_every_option_sets_a_field_of_its_own() -> None:
    fields = [name for name, _ in OPTIONS.values()]
    assert len(set(fields)) == len(fields)
    assert set(fields) <= set(Relay.__slots__)
    assert set(TIMEOUTS.values()) == set(Timeouts.__slots__)


def test_every_option_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "relays.md").read_text()
    table = "".join(line for line in page.splitlines() if line.startswith("| `"))
    assert [option for option in (*OPTIONS, *TIMEOUTS) if f"`{option}`" not in table] == []
