"""The states and their transitions: one table that everything else relies on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.states import (
    FINAL_STATES,
    TRANSITIONS,
    Lane,
    RecipientState,
    message_state,
)

STATES = list(RecipientState)


def reachable(start: RecipientState) -> set[RecipientState]:
    """Walk the table from ``start``, and return every state one comes by."""
    found = {start}
    edge = [start]
    while edge:
        following = TRANSITIONS[edge.pop()] - found
        found |= following
        edge.extend(following)
    return found


def test_every_state_has_a_line_in_the_table() -> None:
    assert set(TRANSITIONS) == set(STATES)


def test_every_state_is_reached_from_queued() -> None:
    assert reachable(RecipientState.QUEUED) == set(STATES)


@pytest.mark.parametrize("state", STATES)
def test_accepted_is_reached_from_everywhere_and_left_for_nowhere(state: RecipientState) -> None:
    assert RecipientState.ACCEPTED in reachable(state)
    assert not TRANSITIONS[RecipientState.ACCEPTED]


@pytest.mark.parametrize("state", sorted(FINAL_STATES - {RecipientState.ACCEPTED}))
def test_what_ended_without_being_sent_can_be_queued_again(state: RecipientState) -> None:
    assert RecipientState.QUEUED in TRANSITIONS[state]


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_what_has_ended_is_never_sent_by_itself(state: RecipientState) -> None:
    assert RecipientState.SENDING not in TRANSITIONS[state]


@given(st.lists(st.sampled_from(STATES), min_size=1))
def test_a_message_is_accepted_only_when_every_recipient_is(states: list[RecipientState]) -> None:
    derived = message_state(states)
    assert derived in states
    everyone = set(states) == {RecipientState.ACCEPTED}
    assert (derived is RecipientState.ACCEPTED) is everyone


@given(st.lists(st.sampled_from(STATES), min_size=1))
def test_a_message_is_final_only_when_every_recipient_is(states: list[RecipientState]) -> None:
    assert (message_state(states) in FINAL_STATES) is (set(states) <= FINAL_STATES)


def test_a_message_without_recipients_has_no_state() -> None:
    with pytest.raises(ValueError, match="expected at least one recipient"):
        message_state([])


def test_urgent_comes_before_normal_and_normal_before_bulk() -> None:
    assert sorted(Lane, key=lambda lane: lane.rank) == [Lane.URGENT, Lane.NORMAL, Lane.BULK]
