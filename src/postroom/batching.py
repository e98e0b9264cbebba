"""Batches: what is too much for one statement or one write, a fixed number of items at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Yield ``items`` in tuples of ``size``; the last one may be shorter.

    Python has `itertools.batched` from 3.12 on.

    Args:
        items: Anything that can be iterated once.
        size: How many go into a batch; at least 1.
    """
    left = iter(items)
    while batch := tuple(islice(left, size)):
        yield batch
