"""Limits for rendering one message: seconds, steps and characters, counted while it runs.

No template, whoever wrote it, takes more than its budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from postroom import checks
from postroom.errors import ConfigError, TemplateError, TemplateTooSlow
from postroom.text import shorten_repr

#: How many steps there are between two readings of the clock.
STEPS_PER_CHECK = 256

#: How many written characters count as one step.
CHARACTERS_PER_STEP = 64

_ADVICE = "simplify the template, or raise {} of the outbox's RenderBudget"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderBudget:
    """What rendering the templates of one message (subject, text and HTML together) may take.

    A message that takes more is refused: at enqueue with an error, at delivery with the state
    ``rejected``. The defaults are far above what a mail needs.

    Attributes:
        seconds: The longest time, in seconds; it is checked every 256 steps and between pieces of
            output.
        steps: The most steps. A turn of a loop, a call, and 64 written characters are one each.
        characters: The most characters of the output, and of any value that is computed for it.
        clock: A monotonic clock, in seconds.

    Raises:
        ConfigError: A limit is not a positive number.
    """

    seconds: float = 5.0
    steps: int = 1_000_000
    characters: int = 25 * 1024 * 1024
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check that the limits are positive."""
        checks.seconds(self.seconds, "the seconds of a RenderBudget")
        checks.count(self.steps, "the steps of a RenderBudget")
        checks.count(self.characters, "the characters of a RenderBudget")
        if not callable(self.clock):
            raise ConfigError(
                f"the clock of a RenderBudget must be a callable, not {shorten_repr(self.clock)}"
            )

    def meter(self) -> Meter:
        """Return a new meter for one message; its time begins now."""
        return Meter(self)


class Meter:
    """What is left of a budget while one message is rendered.

    Args:
        budget: The budget.
    """

    __slots__ = ("_budget", "_check_below", "_deadline", "_left")

    def __init__(self, budget: RenderBudget) -> None:
        self._budget = budget
        self._left = budget.steps
        self._check_below = budget.steps - STEPS_PER_CHECK
        self._deadline = budget.clock() + budget.seconds

    def spend(self, steps: int = 1) -> None:
        """Count steps.

        Args:
            steps: How many.

        Raises:
            TemplateTooSlow: The budget is used up.
        """
        self._left -= steps
        if self._left < self._check_below:
            self.check()

    def check(self) -> None:
        """Check the steps and the clock.

        Raises:
            TemplateTooSlow: The budget is used up.
        """
        budget = self._budget
        if self._left < 0:
            raise TemplateTooSlow(
                f"rendering took more than {budget.steps:,} steps (turns of loops, calls, long "
                f"texts); {_ADVICE.format('steps')}"
            )
        if budget.clock() > self._deadline:
            raise TemplateTooSlow(
                f"rendering took more than {budget.seconds:g} seconds; "
                f"{_ADVICE.format('seconds')} (POSTROOM_TEMPLATE_SECONDS)"
            )
        self._check_below = max(self._left - STEPS_PER_CHECK, 0)

    def reserve(self, characters: int) -> None:
        """Count a text that is about to be made.

        Args:
            characters: Its length.

        Raises:
            TemplateTooSlow: The budget is used up.
            TemplateError: It is longer than a text may be.
        """
        self.refuse_beyond(characters)
        self.spend(characters // CHARACTERS_PER_STEP)

    def joined(self, pieces: Iterable[str]) -> str:
        """Return ``pieces`` as one text, checking the clock after every 256 of them.

        Args:
            pieces: The pieces of the output.

        Raises:
            TemplateTooSlow: The budget is used up.
            TemplateError: The text is longer than a text may be.
        """
        pieces = iter(pieces)
        batch = list(islice(pieces, STEPS_PER_CHECK))
        size = sum(map(len, batch))
        batches = [batch]
        while len(batch) == STEPS_PER_CHECK:
            self.check()
            batch = list(islice(pieces, STEPS_PER_CHECK))
            batches.append(batch)
            size += sum(map(len, batch))
            self.refuse_beyond(size)
        if size > STEPS_PER_CHECK:
            self.reserve(size)
        return "".join(batch if len(batches) == 1 else chain.from_iterable(batches))

    def counted(self, items: Iterable[Any], steps: int = 1) -> Iterable[Any]:
        """Return ``items`` for an iteration that is counted.

        Args:
            items: The items.
            steps: How many steps each of them counts.
        """
        if isinstance(items, list | tuple | dict) and len(items) <= STEPS_PER_CHECK:
            self.spend(len(items) * steps)
            return items
        return self._each(iter(items), steps)

    def _each(self, items: Iterator[Any], steps: int) -> Iterator[Any]:
        for item in items:
            self.spend(steps)
            yield item

    def refuse_beyond(self, characters: int) -> None:
        """Refuse a text that is too long, without counting it.

        Args:
            characters: Its length.

        Raises:
            TemplateError: It is longer than a text may be.
        """
        most = self._budget.characters
        if characters > most:
            raise TemplateError(
                f"a text of {characters:,} characters is too long, at most {most:,} are allowed; "
                f"{_ADVICE.format('characters')}"
            )


#: The budget if none is given.
DEFAULT_BUDGET = RenderBudget()
