"""What is written of a draft reads back the same, and the hash tells what was asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import InvalidAddress
from postroom.message.address import Address
from postroom.message.message import Draft
from postroom.states import RecipientType
from postroom.storage.message_store import content_hash, message_row
from postroom.storage.recipients import ResolvedRecipient

SHOP = Address("Shop <shop@example.com>")
DRAFT = Draft(
    message_id_seed="0" * 32,
    date=datetime(2025, 3, 1, tzinfo=UTC),
    sender=SHOP,
    subject="Order",
    text="Text",
    html=None,
)
FILE = {"filename": "a.pdf", "sha256": "0" * 64}


def someone(text: str, kind: RecipientType = RecipientType.TO, **fields: Any) -> ResolvedRecipient:
    address = Address(text)
    return ResolvedRecipient(address=address, dedup_key=address.dedup_key, type=kind, **fields)


def digest(
    draft: Draft = DRAFT, files: tuple[Any, ...] = (FILE,), *asked: ResolvedRecipient, **more: Any
) -> str:
    return content_hash(message_row(draft) | more, files, asked or [someone("a@example.com")])


@pytest.mark.parametrize(
    "name", ["", "Ann", "Lee, Ann", 'Ann "A" Lee', 'Lee, "A"', "a\\b", "Lee\\, Ann", "<x>", "Ä 請"]
)
def test_an_address_reads_back_with_its_name(name: str) -> None:
    address = Address.from_parts(local="ann", domain="example.com", name=name)
    assert Address(str(address)) == address


@given(st.text(min_size=1))
def test_any_name_reads_back(name: str) -> None:
    try:
        address = Address.from_parts(local="ann", domain="example.com", name=name)
    except InvalidAddress:
        return
    assert Address(str(address)) == address


def test_the_hash_is_of_what_was_asked_and_not_of_when() -> None:
    later = replace(DRAFT, message_id_seed="1" * 32, date=datetime(2026, 1, 1, tzinfo=UTC))
    assert digest(later) == digest()
    assert (
        digest(lane="bulk", tags=["a"], relay="b", scheduled_at="c", idempotency_key="d")
        == digest()
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(DRAFT, subject="Other"),
        replace(DRAFT, text="Other"),
        replace(DRAFT, html="<p>"),
        replace(DRAFT, sender=SHOP.with_name("Other")),
        replace(DRAFT, headers=(("X-A", "1"),)),
        replace(DRAFT, reply_to=(SHOP,)),
        replace(DRAFT, shared=True),
    ],
)
def test_other_content_has_another_hash(other: Draft) -> None:
    assert digest(other) != digest()


def test_another_file_is_other_content() -> None:
    assert digest(DRAFT, (FILE | {"sha256": "1" * 64},)) != digest()
    assert digest(DRAFT, (FILE | {"filename": "b.pdf"},)) != digest()


def test_another_envelope_sender_is_other_content() -> None:
    assert digest(envelope_sender="") != digest()


@pytest.mark.parametrize(
    "other",
    [
        someone("b@example.com"),
        someone("a@example.com", RecipientType.BCC),
        someone("Ann <a@example.com>"),
        someone("a@example.com", variables={"name": "Ann"}),
        someone("a@example.com", user_ref="7"),
    ],
)
def test_other_recipients_are_other_content(other: ResolvedRecipient) -> None:
    assert digest(DRAFT, (FILE,), other) != digest()


def test_the_order_of_recipients_means_nothing_nor_does_naming_one_twice() -> None:
    a, b = someone("a@example.com"), someone("b@example.com")
    assert digest(DRAFT, (FILE,), a, b) == digest(DRAFT, (FILE,), b, a, b)


def test_a_user_stays_the_same_user_when_their_address_changes() -> None:
    before = someone("ann@example.com", user_ref="7")
    after = someone("ann.lee@example.com", user_ref="7")
    assert digest(DRAFT, (FILE,), before) == digest(DRAFT, (FILE,), after)
