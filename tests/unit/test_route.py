"""Routes: how they are written, and whom they choose."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import ConfigError
from postroom.relays.circuit_breaker import CircuitBreaker, CircuitBreakerConfig
from postroom.relays.relay import Relay
from postroom.relays.route import Failover, RoundRobin, Route, parse_route, relays_in
from postroom.relays.selector import RelaySelector
from postroom.states import Fault
from tests.clock import Clock

A, B, C, D = (f"smtp://{name}.example" for name in "abcd")


class Setup:
    """A route with its circuit breakers, on a clock that the test moves."""

    def __init__(self, text: str) -> None:
        self.clock = Clock()
        route = parse_route(text)
        config = CircuitBreakerConfig(failure_threshold=1, reset_timeout_s=10, backoff_factor=2)
        self.breakers = {
            relay.name: CircuitBreaker(clock=self.clock, config=config)
            for relay in relays_in(route)
        }
        self.router = RelaySelector(route, self.breakers)

    def fail(self, *names: str) -> None:
        for name in names:
            self.breakers[f"{name}.example"].record(Fault.RELAY)

    def chosen(self, times: int = 1) -> list[str]:
        chosen = [self.router.select() for _ in range(times)]
        return [relay.host[0] if relay else "-" for relay in chosen]


# Written


def test_a_url_alone_is_a_route() -> None:
    route = parse_route(A, name="main")
    assert isinstance(route, Relay)
    assert (route.name, route.host) == ("main", "a.example")


def test_routes_nest() -> None:
    route = parse_route(f"failover(roundrobin({A} {B})  {C}\n roundrobin({D}))", name="all")
    assert isinstance(route, Failover)
    assert route.name == "all"
    first, second, third = route.members
    assert isinstance(first, RoundRobin)
    assert isinstance(second, Relay)
    assert isinstance(third, RoundRobin)
    assert [relay.host[0] for relay in relays_in(route)] == ["a", "b", "c", "d"]


def test_members_may_be_named() -> None:
    known: dict[str, Route] = {"main": Relay.parse(A, name="main")}
    route = parse_route(f"failover(main {B})", known=known)
    assert [relay.name for relay in relays_in(route)] == ["main", "b.example"]


def test_options_of_a_member_are_its_own() -> None:
    route = parse_route(f"failover({A}?connections=2 {B}?connections=3)")
    assert [relay.connections for relay in relays_in(route)] == [2, 3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "got: nothing"),
        ("   ", "got: nothing"),
        ("failover()", "no member"),
        (f"failover({A}", "does not close"),
        (f"failover({A}))", "after its end"),
        (f"{A} {B}", "after its end"),
        (")", "stands alone"),
        ("(", "stands alone"),
        (f"({A} {B})", "stands alone"),
        ("failover(main)", "one of the relays none, got: 'main'"),
        (f"failover({A} {A}:26)", "a.example twice"),
        (f"failover({A}?colour=red)", "did you mean"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_route(text)
    assert expected in str(refused.value) or "known are" in str(refused.value)


def test_no_error_about_a_route_shows_a_password() -> None:
    for text in ("user:hunter2@a.example", "failover(user:hunter2@a.example)"):
        with pytest.raises(ConfigError) as refused:
            parse_route(text)
        assert "hunter2" not in str(refused.value)


@given(st.text(alphabet="failoverundb( )/:.a", max_size=40))
def test_any_text_is_a_route_or_a_config_error(text: str) -> None:
    try:
        parse_route(text)
    except ConfigError:
        return


# Chosen


def test_failover_takes_the_first_that_is_well() -> None:
    setup = Setup(f"failover({A} {B} {C})")
    assert setup.chosen(3) == ["a", "a", "a"]
    setup.fail("a")
    assert setup.chosen(2) == ["b", "b"]
    setup.fail("b")
    assert setup.chosen() == ["c"]


def test_failover_returns_to_the_first_after_its_rest() -> None:
    setup = Setup(f"failover({A} {B})")
    setup.fail("a")
    setup.clock.now = 10
    assert setup.chosen() == ["a"]
    # Its sender asks for permission: while that one mail probes it, the others go elsewhere.
    assert setup.breakers["a.example"].allow_request()
    assert setup.chosen() == ["b"]
    setup.breakers["a.example"].record(None)
    assert setup.chosen() == ["a"]


def test_round_robin_takes_turns() -> None:
    setup = Setup(f"roundrobin({A} {B} {C})")
    assert setup.chosen(6) == ["a", "b", "c", "a", "b", "c"]


def test_round_robin_leaves_out_those_that_rest() -> None:
    setup = Setup(f"roundrobin({A} {B} {C})")
    setup.fail("b")
    assert Counter(setup.chosen(30)) == {"a": 10, "c": 20}


def test_where_all_rest_none_is_chosen_and_the_shortest_rest_is_told() -> None:
    setup = Setup(f"failover({A} {B})")
    setup.fail("a")
    setup.clock.now = 4
    setup.fail("b")
    assert setup.chosen() == ["-"]
    assert setup.router.retry_after_s() == 6
    setup.clock.now = 10
    assert setup.router.retry_after_s() == 0


def test_a_bad_address_never_makes_a_route_fail_over() -> None:
    setup = Setup(f"failover({A} {B})")
    for _ in range(100):
        setup.breakers["a.example"].record(Fault.RECIPIENT)
    assert setup.chosen() == ["a"]


def test_nested_routes_choose_by_their_own_rules() -> None:
    setup = Setup(f"failover(roundrobin({A} {B}) {C})")
    assert setup.chosen(4) == ["a", "b", "a", "b"]
    setup.fail("a")
    assert set(setup.chosen(4)) == {"b"}
    setup.fail("b")
    assert setup.chosen() == ["c"]
