"""The mail that benches send: text and HTML, about 2 KiB on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from postroom.message.address import Address
from postroom.message.message import Draft, Message
from postroom.message.mime import compose
from postroom.message.templates import Template

TEMPLATES = Path(__file__).parents[1] / "templates"

SENDER = "Shop <shop@example.com>"
SUBJECT = "Your order A-1001 is on its way"

_LINES = (
    "Dear customer, thank you for your order.",
    "It left our house today and should be with you within two days.",
    "You can follow it with the tracking number 00340434161094042557.",
    "Should something be missing or broken, answer this mail and we see to it at once.",
    "The invoice is in your account, where you may also change your address.",
)
TEXT = "\n".join(_LINES * 2) + "\n\nThe shop\n"
HTML = (
    "<!doctype html><html><body><h1>Your order</h1>\n"
    + "\n".join(f"<p>{line}</p>" for line in _LINES * 2)
    + "\n<p>The shop</p></body></html>\n"
)


def message(**fields: object) -> Message:
    """Return the mail, with further fields of a message."""
    return Message(sender=SENDER, subject=SUBJECT, text=TEXT, html=HTML, **fields)  # type: ignore[arg-type]


def order(number: int) -> tuple[Message, str]:
    """Return a mail of its own from the templates, and whom it goes to."""
    lines = [
        {"amount": amount, "title": f"Article {number}-{amount}", "price": f"{amount * 7}.90"}
        for amount in range(1, 6)
    ]
    values = {
        "name": f"Customer {number}",
        "order": {
            "number": f"A-{number}",
            "lines": lines,
            "total": "109.50",
            "tracking": f"0034043416{number:010}",
        },
    }
    message = Message(
        sender=SENDER,
        subject=f"Your order A-{number} is on its way",
        text=Template("order.txt", **values),
        html=Template("order.html", **values),
    )
    return message, address(number)


def address(number: int) -> str:
    """Return one of any number of different addresses."""
    return f"customer{number}@example.net"


def addresses(count: int) -> list[str]:
    """Return the first ``count`` of them."""
    return [address(number) for number in range(count)]


def size_bytes() -> int:
    """Return how many bytes one copy has on the wire."""
    draft = Draft(
        message_id_seed="0" * 32,
        date=datetime(2026, 1, 1, tzinfo=UTC),
        sender=Address(SENDER),
        subject=SUBJECT,
        text=TEXT,
        html=HTML,
    )
    content = compose(draft)
    head = content.head(to=Address(address(1)), message_id="<0@example.com>")
    return len(head) + content.tail_size_bytes
