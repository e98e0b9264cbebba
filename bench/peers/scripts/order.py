"""What every peer is asked: send these mails to a relay on this machine, and say how long it took.

Runs in the peer's own environment: standard library only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage


@dataclass(frozen=True)
class Mail:
    """One mail to one recipient."""

    sender: str
    to: str
    subject: str
    text: str
    html: str

    def built(self) -> EmailMessage:
        """Return the mail as the standard library builds it."""
        message = EmailMessage()
        message["From"] = self.sender
        message["To"] = self.to
        message["Subject"] = self.subject
        message.set_content(self.text)
        message.add_alternative(self.html, subtype="html")
        return message


@dataclass(frozen=True)
class Order:
    """``port`` is the relay's, ``count`` how many recipients get a mail.

    Where ``is_each_different``, text and HTML differ from mail to mail in the place of
    ``{number}``; ``postgresql`` and ``redis`` are URLs of empty servers, where lent.
    """

    port: int
    count: int
    connections: int
    sender: str
    subject: str
    text: str
    html: str
    is_each_different: bool = False
    postgresql: dict[str, str] | None = None
    redis: str = ""

    def mails(self) -> Iterator[Mail]:
        """Yield a mail for each recipient."""
        for number in range(self.count):
            text, html = self.text, self.html
            if self.is_each_different:
                text, html = (body.replace("{number}", str(number)) for body in (text, html))
            to = f"customer{number}@example.net"
            yield Mail(self.sender, to, self.subject, text, html)


def read() -> Order:
    """Return the order from standard input."""
    return Order(**json.load(sys.stdin))


def tell(**measured: float) -> None:
    """Print what was measured; the last line of a script's output."""
    print(json.dumps(measured))


class Watch:
    """Measures seconds since it was made or last read."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap_s(self) -> float:
        """Return the seconds since the last lap, and begin another."""
        now = time.perf_counter()
        lap, self._since = now - self._since, now
        return lap
