"""A relay looked at step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.relays.relay import Relay
from postroom.smtp.diagnostics import CheckStep, diagnose
from postroom.states import Phase
from postroom.testing import FaultyRelay, ServerOptions
from tests.faults.smtp_client import mail
from tests.integration.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def relay(authority: Authority) -> Iterator[FaultyRelay]:
    abilities = ServerOptions(tls=authority.server("127.0.0.1"), credentials={"user": "pa55word"})
    with FaultyRelay(abilities) as relay:
        yield relay


def steps(relay: Relay, **options: object) -> dict[str, CheckStep]:
    found = list(diagnose(relay, **options))  # type: ignore[arg-type]
    assert len({step.name for step in found}) == len(found)
    return {step.name: step for step in found}


def url(relay: FaultyRelay, authority: Authority, options: str = "") -> Relay:
    return Relay.parse(f"{relay.url}?ca={authority.file}{options}")


def test_every_step_tells_what_it_saw(relay: FaultyRelay, authority: Authority) -> None:
    found = steps(url(relay, authority), mail=mail("ada@example.com"))
    assert list(found) == [
        "resolve",
        "connect",
        "greeting",
        "extensions",
        "pipelining",
        "TLS",
        "certificate",
        "login",
        "mail",
        "final dot",
    ]
    assert all(step.ok for step in found.values())
    assert found["connect"].detail == f"127.0.0.1:{relay.port}"
    assert found["greeting"].detail == "220 relay.example ready"
    assert "PIPELINING, SIZE 52428800" in found["extensions"].detail
    assert found["TLS"].detail.startswith("TLSv1.3, ")
    assert "127.0.0.1" in found["certificate"].detail
    assert "more days" in found["certificate"].detail
    assert found["login"].detail == "user by PLAIN"
    assert found["mail"].detail == "ada@example.com accepted: 250 2.0.0 accepted"
    assert len(relay.accepted) == 1


def test_whether_the_next_mail_may_begin_with_the_final_dot_is_tried() -> None:
    with FaultyRelay() as relay:
        found = steps(Relay.parse(relay.url), mail=mail("ada@example.com"))
        assert found["pipelining"].detail.startswith("announced: the next mail begins with")
        assert "may begin" in found["final dot"].detail
        assert found["final dot"].cause == ""
        assert len(relay.accepted) == 1


def test_a_relay_that_refuses_early_commands_is_found_out() -> None:
    with FaultyRelay(ServerOptions(refuses_early=True)) as relay:
        found = steps(Relay.parse(relay.url), mail=mail("ada@example.com"))
        assert found["mail"].ok
        assert "503 Bad sequence of commands - pipelined after" in found["final dot"].detail
        assert "pipelining=transaction" in found["final dot"].cause
        said = steps(
            Relay.parse(f"{relay.url}&pipelining=transaction"), mail=mail("ada@example.com")
        )
        assert "final dot" not in said
        assert "as the URL says" in said["pipelining"].detail
        assert len(relay.accepted) == 2


def test_a_relay_without_pipelining_is_found_out() -> None:
    with FaultyRelay(ServerOptions().without("PIPELINING")) as relay:
        found = steps(Relay.parse(relay.url), mail=mail("ada@example.com"))
        assert found["pipelining"].detail == "not announced: one command at a time"
        assert "final dot" not in found


def test_without_a_mail_none_is_sent(relay: FaultyRelay, authority: Authority) -> None:
    assert "mail" not in steps(url(relay, authority))
    assert relay.accepted == []


def test_a_certificate_that_ends_soon_is_pointed_out(
    relay: FaultyRelay, authority: Authority
) -> None:
    in_the_year_3000 = (3000 - 1970) * 365.2425 * 86_400
    far = steps(url(relay, authority), now=lambda: 0.0)["certificate"]
    late = steps(url(relay, authority), now=lambda: in_the_year_3000 - 86_400)["certificate"]
    assert far.cause == ""
    assert "renewed" in late.cause


@pytest.mark.parametrize(
    ("phase", "answer", "step"),
    [
        (Phase.GREETING, "554 5.7.1 not for you", "greeting"),
        (Phase.EHLO, "421 4.3.2 not now", "extensions"),
        (Phase.STARTTLS, "454 4.7.0 no TLS today", "TLS"),
        (Phase.AUTH, "535 5.7.8 wrong", "login"),
    ],
)
def test_a_failing_step_is_the_last_and_says_why(
    relay: FaultyRelay, authority: Authority, phase: Phase, answer: str, step: str
) -> None:
    relay.on(phase, answer)
    last = list(steps(url(relay, authority)).values())[-1]
    assert (last.name, last.ok) == (step, False)
    assert answer in last.detail
    assert last.cause
    assert "pa55word" not in f"{last.detail} {last.cause}"


def test_a_name_that_does_not_resolve_is_the_first_step() -> None:
    [step] = diagnose(Relay.parse("smtp://relay.invalid"))
    assert (step.name, step.ok) == ("resolve", False)
    assert "relay.invalid" in step.detail


def test_a_port_nobody_listens_on_is_told() -> None:
    with FaultyRelay() as relay:
        relay.refuse()
        found = steps(Relay.parse(relay.url))
    assert list(found) == ["resolve", "connect"]
    assert not found["connect"].ok


def test_a_certificate_nobody_vouches_for_is_told(relay: FaultyRelay) -> None:
    last = list(steps(Relay.parse(relay.url)).values())[-1]
    assert (last.name, last.ok) == ("TLS", False)
    assert "ca=FILE" in last.cause


def test_clear_text_and_unix_sockets_are_told(tmp_path: Path) -> None:
    with FaultyRelay() as relay:
        assert "clear text" in steps(Relay.parse(relay.url))["TLS"].detail
    with FaultyRelay(ServerOptions(is_lmtp=True), path=tmp_path / "lmtp") as relay:
        found = steps(Relay.parse(relay.url))
        assert found["connect"].detail == str(tmp_path / "lmtp")
        assert "socket of this machine" in found["TLS"].detail


def test_an_unverified_certificate_is_told(relay: FaultyRelay) -> None:
    options = "?tls=opportunistic&auth_over_clear=yes"
    assert "not verified" in steps(Relay.parse(relay.url + options))["certificate"].detail


def test_a_refused_mail_is_told_with_whose_fault_it_is(
    relay: FaultyRelay, authority: Authority
) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 unknown")
    last = steps(url(relay, authority), mail=mail("nobody@example.com"))["mail"]
    assert not last.ok
    assert "nobody@example.com rejected: 550 5.1.1 unknown" in last.detail
    assert "recipient" in last.cause
