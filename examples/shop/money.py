"""Money: whole cents inside, a text for people."""

from __future__ import annotations


def euros(cents: int) -> str:
    """Return ``cents`` as a person writes them."""
    return f"€{cents // 100:,}.{cents % 100:02}"
