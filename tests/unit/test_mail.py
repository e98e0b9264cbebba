"""A message in a worker's hands, and how long it takes to make it ready."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from postroom.delivery import mail as mail_module
from postroom.delivery.mail import Mail
from postroom.storage.contents import StoredMessage
from postroom.values.drafting import Occasion, drafted
from postroom.values.message import Message
from postroom.values.template import Template, Templates
from tests.unit.claims import claim, stored_message


def templated(source: str) -> StoredMessage:
    occasion = Occasion(
        sender=None,
        templates=Templates.of(None),
        token="0" * 32,
        date=datetime(2026, 5, 4, tzinfo=UTC),
    )
    message = Message(sender="shop@example.com", text=Template.from_string(source))
    return stored_message(draft=drafted(message, occasion, parts=(), has_variables=True))


def test_a_template_that_proves_slow_is_rendered_aside_until_it_has_been_quick_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mail = Mail(
        templated(
            "{% for n in range(times) %}{% for m in range(times) %}{{ m }}{% endfor %}{% endfor %}"
        )
    )
    mail.address([claim(1, variables={"times": 1})])  # compiled now
    mail = Mail(mail.message)
    mail.address([claim(1, variables={"times": 1})])
    assert not mail.is_slow_to_compose
    mail.address([claim(2, variables={"times": 600})])
    assert mail.is_slow_to_compose
    monkeypatch.setattr(mail_module, "SLOW_S", 60)
    for number in range(100):
        assert mail.is_slow_to_compose
        mail.address([claim(number, variables={"times": 1})])
    assert not mail.is_slow_to_compose


def test_a_message_without_templates_is_quick() -> None:
    mail = Mail(stored_message())
    mail.address([claim(1)])
    assert not mail.is_slow_to_compose
