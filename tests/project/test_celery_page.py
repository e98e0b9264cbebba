"""The code on the page about Celery does what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from inspect import signature
from typing import Any

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from postroom.integrations.celery import TASK, setup
from postroom.testing import FaultyRelay
from tests.project.sources import ROOT

PAGE = (ROOT / "docs" / "celery.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python( \w+)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class Base(DeclarativeBase):
    """The shop's metadata."""


class Order(Base):
    __tablename__ = "celery_page_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    email: Mapped[str]


@dataclass
class Moved:
    """The application after the move."""

    names: dict[str, Any]
    relay: FaultyRelay

    def sent(self) -> list[tuple[str, str]]:
        """Deliver as the task would; return to whom, and with which subject."""
        before = len(self.relay.accepted)
        self.names["app"].tasks[TASK]()
        return [
            (mail.recipients[0], str(message_from_bytes(mail.content)["Subject"]))
            for mail in self.relay.accepted[before:]
        ]


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """The page's code, run once: Celery knows a task by its name in every application."""
    with FaultyRelay() as relay, pytest.MonkeyPatch.context() as environment:
        environment.setenv("POSTROOM_CONFIG", "")
        environment.setenv(
            "POSTROOM_DATABASE_URL", f"sqlite:///{tmp_path_factory.mktemp('page') / 'shop.sqlite'}"
        )
        environment.setenv("POSTROOM_RELAY", relay.url)
        environment.setenv("POSTROOM_SENDER", "shop@example.com")
        names: dict[str, Any] = {}
        for label, code in BLOCKS:
            if label != " before":
                local = code.replace("redis://localhost:6379/0", "memory://")
                exec(compile(local, "page", "exec"), names)
        names["outbox"].create_tables()
        Base.metadata.create_all(names["outbox"].engine)
        # As a worker does when it starts. Otherwise Celery makes tasks ready at their first use,
        # which here may be by two threads at once: ours, and the one that sends hints.
        names["app"].finalize()
        yield Moved(names, relay)
        names["outbox"].close()


def test_what_stood_before_is_python() -> None:
    (before,) = [code for label, code in BLOCKS if label == " before"]
    assert compile(before, "page", "exec")


def test_an_order_brings_its_mail_along(moved: Moved) -> None:
    with Session(moved.names["outbox"].engine) as session:
        moved.names["place_order"](session, Order(number="A-1", email="ada@example.com"))
    assert moved.sent() == [("ada@example.com", "Your order")]


def test_a_task_that_runs_twice_sends_once(moved: Moved) -> None:
    for _ in range(2):
        moved.names["send_email"].apply(
            args=("ada@example.com", "Hello", "Is it there?"), task_id="one", throw=True
        )
    assert moved.sent() == [("ada@example.com", "Hello")]


def test_the_page_names_every_option() -> None:
    options = list(signature(setup).parameters)[2:]
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == options
