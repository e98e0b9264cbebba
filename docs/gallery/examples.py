"""The gallery's examples: read from the page, run, and delivered to a relay that keeps them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import Parser
from email.policy import default
from pathlib import Path
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from postroom import Address, Message, Outbox, Receipt, Recipient
from postroom.schema import tables
from postroom.testing import Accepted, FaultyRelay

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "gallery.md"

#: When all of it is written, so that the pictures do not change from day to day.
WRITTEN_AT = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)

_CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"^!\[([^]]+)\]\(gallery/([\w-]+)\.png\)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A section of the page. ``name`` is its picture's."""

    title: str
    name: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What an example gave to ``outbox.enqueue``."""

    message: Message
    to: Sequence[str | Recipient]
    cc: Sequence[str] = ()
    bcc: Sequence[str] = ()
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """An example that was run: what it typed, and what the relay accepted."""

    example: Example
    typed: Typed
    received: tuple[Accepted, ...]

    @property
    def first(self) -> EmailMessage:
        """The copy of the recipient who is named first, as the standard library reads it."""
        address = recipient_of(self.typed.to[0]).envelope
        return next(parsed(mail.content) for mail in self.received if address in mail.recipients)


class NotingOutbox:
    """The outbox that an example sees: it notes what is typed, and enqueues it."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.typed: list[Typed] = []

    def enqueue(self, session: Session, message: Message, **recipients: Any) -> Receipt:
        """Do what an outbox does."""
        self.typed.append(Typed(message=message, **recipients))
        return self._outbox.enqueue(session, message, **recipients)


def read_page() -> tuple[str, list[Example]]:
    """Return the code that all examples share, and the examples."""
    before, *sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return _code(before), [_example(section) for section in sections if _CODE.search(section)]


def deliveries() -> Iterator[Delivered]:
    """Run every example as it stands on the page, but with a relay and a database that are here."""
    shared, examples = read_page()
    with tempfile.TemporaryDirectory() as folder, FaultyRelay() as relay, chdir(FOLDER):
        names: dict[str, Any] = {}
        exec(_here(shared, relay.url, Path(folder) / "shop.db"), names)  # noqa: S102 - our page
        outbox, session = names["outbox"], names["session"]
        with session:
            for example in examples:
                seen = len(relay.accepted)
                typed = _run(example, names)
                outbox.worker().drain()
                received = tuple(relay.accepted[seen:])
                yield Delivered(example=example, typed=typed, received=received)
        outbox.close()
        names["engine"].dispose()


def recipient_of(typed: str | Recipient) -> Address:
    """Return the address of one whom an example writes to."""
    address = typed.address if isinstance(typed, Recipient) else typed
    return address if isinstance(address, Address) else Address(address)


def parsed(content: bytes) -> EmailMessage:
    """Return a mail as the standard library reads it.

    From text, because its reader of bytes knows no headers in UTF-8 (RFC 6532).
    """
    message = Parser(policy=default).parsestr(content.decode("utf-8"))
    assert isinstance(message, EmailMessage)  # the policy says so, its type does not
    return message


def octets(part: EmailMessage) -> bytes:
    """Return what a part carries, decoded."""
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes), "expected a part that holds no others"
    return content


def _example(section: str) -> Example:
    pictures = _PICTURE.findall(section)
    assert len(pictures) == 1, f"expected one picture, got: {section[:200]}"
    return Example(title=section.splitlines()[0], name=pictures[0][1], code=_code(section))


def _code(section: str) -> str:
    (code,) = _CODE.findall(section)
    return str(code)


def _here(shared: str, relay_url: str, database: Path) -> str:
    replaced = shared.replace("smtps://shop:secret@smtp.example.com", relay_url)
    return replaced.replace("sqlite:///shop.db", f"sqlite:///{database}")


def _run(example: Example, names: dict[str, Any]) -> Typed:
    noting = NotingOutbox(names["outbox"])
    exec(example.code, names | {"outbox": noting})  # noqa: S102 - our own page
    names["session"].execute(update(tables().message).values(created_at=WRITTEN_AT))
    names["session"].commit()
    (typed,) = noting.typed
    return typed
