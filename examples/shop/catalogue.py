"""What the shop sells."""

from __future__ import annotations

from dataclasses import dataclass

from examples.shop.money import euros


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """Something on the shelf. ``code`` names it in a form."""

    code: str
    name: str
    note: str
    price_cents: int

    @property
    def price(self) -> str:
        """What it costs, to be read."""
        return euros(self.price_cents)


CATALOGUE = (
    Article(
        code="pen",
        name="Fountain pen “Ærø”",
        note="Brass and black resin, nib F",
        price_cents=5800,
    ),
    Article(code="ink", name="Ink, royal blue", note="50 ml, washable", price_cents=750),
    Article(
        code="notebook",
        name="Notebook A5, dotted",
        note="192 pages that lie flat",
        price_cents=980,
    ),
)
