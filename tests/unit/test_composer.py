"""A message in a worker's hands, and how long it takes to make it ready."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from postroom.delivery import composer as mail_module
from postroom.delivery.composer import ComposerCache, MessageComposer
from postroom.message.draft import EnqueueContext, make_draft
from postroom.message.message import Message
from postroom.message.templates import RenderBudget, Template, Templates
from postroom.storage.message_store import StoredMessage
from tests.unit.claims import claim, stored_message


def templated(source: str) -> StoredMessage:
    occasion = EnqueueContext(
        sender=None,
        templates=Templates.of(None),
        message_id_seed="0" * 32,
        date=datetime(2026, 5, 4, tzinfo=UTC),
    )
    message = Message(sender="shop@example.com", text=Template.from_string(source))
    return stored_message(draft=make_draft(message, occasion, parts=(), has_variables=True))


def test_a_template_that_proves_slow_is_rendered_aside_until_it_has_been_quick_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mail = MessageComposer(
        templated(
            "{% for n in range(times) %}{% for m in range(times) %}{{ m }}{% endfor %}{% endfor %}"
        )
    )
    mail.compose_for([claim(1, variables={"times": 1})])  # compiled now
    mail = MessageComposer(mail.message)
    mail.compose_for([claim(1, variables={"times": 1})])
    assert not mail.is_slow_to_compose
    mail.compose_for([claim(2, variables={"times": 400})], RenderBudget(seconds=600))
    assert mail.is_slow_to_compose
    monkeypatch.setattr(mail_module, "SLOW_S", 60)
    for number in range(100):
        assert mail.is_slow_to_compose
        mail.compose_for([claim(number, variables={"times": 1})])
    assert not mail.is_slow_to_compose


def test_a_message_without_templates_is_quick() -> None:
    mail = MessageComposer(stored_message())
    mail.compose_for([claim(1)])
    assert not mail.is_slow_to_compose


class Clock:
    """A time that stands still until told otherwise."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(
    cache: ComposerCache, *numbers: int, size: int = 1000, token: str = "0" * 32
) -> dict[int, MessageComposer]:
    """Let the cache take in messages of so many characters, and compose each."""
    claims = [claim(one, message_id=one, message_id_seed=token) for one in numbers]
    draft = replace(stored_message().draft, text="x" * size, message_id_seed=token)
    mails = cache.add([stored_message(id=one, draft=draft) for one in cache.missing(claims)])
    for one in numbers:
        mails[one].compose_for([claim(one)])
    cache.trim()
    return mails


def known(cache: ComposerCache, *numbers: int, token: str | None = "0" * 32) -> list[int]:
    """Return which messages the cache has, and so need not be loaded."""
    claims = [claim(one, message_id=one, message_id_seed=token) for one in numbers]
    return sorted({*numbers} - {*cache.missing(claims)})


def test_of_too_many_messages_the_least_lately_used_is_forgotten() -> None:
    cache = ComposerCache()
    made(cache, *range(mail_module.MOST_KEPT))
    made(cache, 0)
    made(cache, 100)
    assert known(cache, 0, 1, 2, 100) == [0, 2, 100]


def test_of_too_many_bytes_the_least_lately_used_are_forgotten_and_never_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mail_module, "MOST_KEPT_BYTES", 300_000)
    cache = ComposerCache()
    third = mail_module.MOST_KEPT_BYTES // 3
    made(cache, 1, 2, size=third // 4)
    made(cache, 3, size=third)
    assert len(cache) == 2
    assert known(cache, 1, 2, 3) == [2, 3]
    made(cache, 4, size=mail_module.MOST_KEPT_BYTES * 2)
    assert known(cache, 2, 3, 4) == [4]


def test_a_message_that_nobody_claims_any_more_is_forgotten() -> None:
    clock = Clock()
    cache = ComposerCache(clock=clock)
    made(cache, 1, 2)
    clock.now = mail_module.KEPT_UNUSED_S - 1
    assert known(cache, 2) == [2]
    clock.now += 1
    cache.trim()
    assert len(cache) == 1
    assert known(cache, 1, 2) == [2]


def test_where_one_mail_finds_no_room_nothing_is_kept_in_its_way() -> None:
    cache = ComposerCache()
    mail = made(cache, 1, 2)[2]
    mail.had_shortage = True
    cache.trim()
    assert len(cache) == 0


def test_what_is_forgotten_lasts_as_long_as_it_is_in_hand() -> None:
    cache = ComposerCache(clock=(clock := Clock()))
    mail = made(cache, 1, size=mail_module.IN_MEMORY_BYTES)[1]
    _, payload = mail.compose_for([claim(1)])
    clock.now = mail_module.KEPT_UNUSED_S
    cache.trim()
    del mail
    gc.collect()
    assert len(cache) == 0
    assert len(b"".join(payload.chunks())) == payload.size_bytes


@pytest.mark.parametrize("token", ["1" * 32, None], ids=["another", "gone"])
def test_another_message_with_the_id_of_a_known_one_is_not_taken_for_it(token: str | None) -> None:
    cache = ComposerCache()
    made(cache, 1)
    assert known(cache, 1, token=token) == []
    assert known(cache, 1) == []
