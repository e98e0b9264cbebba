"""How much rendering one message may take: seconds, steps and characters, counted as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from postroom import checks
from postroom.errors import ConfigError, TemplateError, TemplateTooSlow
from postroom.text import shorten_repr

#: The clock is looked at once for so many steps.
STEPS_A_LOOK = 256

#: Characters that are made for one step: a step is a turn of a loop, a call, or these.
CHARACTERS_A_STEP = 64

_RAISE_IT = "simplify the template, or raise {} of the outbox's RenderBudget"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderBudget:
    """What the templates of one message (subject, text and HTML together) may take to render.

    A template that takes more is refused, as the fault of the message: at enqueue by an error, at
    delivery by the state ``rejected``. The defaults are far above what a mail needs.

    Attributes:
        seconds: Time by ``clock``, looked at every 256 steps and between pieces of output.
        steps: Turns of loops, calls of functions and macros, and 64 characters made, each one.
        characters: The most that may come out, and that any value on the way there may have.
        clock: Seconds that only grow; what `time.monotonic` returns.

    Raises:
        ConfigError: a bound is no positive number.
    """

    seconds: float = 5.0
    steps: int = 1_000_000
    characters: int = 25 * 1024 * 1024
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse bounds under which nothing could ever be rendered."""
        checks.seconds(self.seconds, "the seconds of a RenderBudget")
        checks.count(self.steps, "the steps of a RenderBudget")
        checks.count(self.characters, "the characters of a RenderBudget")
        if not callable(self.clock):
            raise ConfigError(
                f"the clock of a RenderBudget must be a callable, not {shorten_repr(self.clock)}"
            )

    def meter(self) -> Meter:
        """Return a fresh meter for one message; its time begins now."""
        return Meter(self)


class Meter:
    """What is left of a budget while one message is rendered."""

    __slots__ = ("_budget", "_deadline", "_left", "_look_below")

    def __init__(self, budget: RenderBudget) -> None:
        self._budget = budget
        self._left = budget.steps
        self._look_below = budget.steps - STEPS_A_LOOK
        self._deadline = budget.clock() + budget.seconds

    def spend(self, steps: int = 1) -> None:
        """Count ``steps``.

        Raises:
            TemplateTooSlow: the budget is used up.
        """
        self._left -= steps
        if self._left < self._look_below:
            self.look()

    def look(self) -> None:
        """Look at the clock.

        Raises:
            TemplateTooSlow: the budget is used up.
        """
        budget = self._budget
        if self._left < 0:
            raise TemplateTooSlow(
                f"rendering took more than {budget.steps:,} steps (turns of loops, calls, long "
                f"texts); {_RAISE_IT.format('steps')}"
            )
        if budget.clock() > self._deadline:
            raise TemplateTooSlow(
                f"rendering took more than {budget.seconds:g} seconds; "
                f"{_RAISE_IT.format('seconds')} (POSTROOM_TEMPLATE_SECONDS)"
            )
        self._look_below = max(self._left - STEPS_A_LOOK, 0)

    def make(self, characters: int) -> None:
        """Count a text of ``characters`` that is about to be made.

        Raises:
            TemplateTooSlow: the budget is used up.
            TemplateError: it is longer than a text may be.
        """
        self.refuse_beyond(characters)
        self.spend(characters // CHARACTERS_A_STEP)

    def joined(self, pieces: Iterable[str]) -> str:
        """Return ``pieces`` as one text; the clock is looked at between portions of them."""
        pieces = iter(pieces)
        portion = list(islice(pieces, STEPS_A_LOOK))
        size = sum(map(len, portion))
        portions = [portion]
        while len(portion) == STEPS_A_LOOK:
            self.look()
            portion = list(islice(pieces, STEPS_A_LOOK))
            portions.append(portion)
            size += sum(map(len, portion))
            self.refuse_beyond(size)
        if size > STEPS_A_LOOK:
            self.make(size)
        return "".join(portion if len(portions) == 1 else chain.from_iterable(portions))

    def counted(self, items: Iterable[Any], steps: int = 1) -> Iterable[Any]:
        """Return ``items`` to be gone through, each for ``steps``."""
        if isinstance(items, list | tuple | dict) and len(items) <= STEPS_A_LOOK:
            self.spend(len(items) * steps)
            return items
        return self._each(iter(items), steps)

    def _each(self, items: Iterator[Any], steps: int) -> Iterator[Any]:
        for item in items:
            self.spend(steps)
            yield item

    def refuse_beyond(self, characters: int) -> None:
        """Refuse a text of ``characters``, without counting it.

        Raises:
            TemplateError: it is longer than a text may be.
        """
        most = self._budget.characters
        if characters > most:
            raise TemplateError(
                f"a text of {characters:,} characters came up, where at most {most:,} may; "
                f"{_RAISE_IT.format('characters')}"
            )


#: What is allowed where nobody says otherwise.
DEFAULT_BUDGET = RenderBudget()
