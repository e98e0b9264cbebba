"""Contenders take turns (A B C, A B C, …), so that a drifting machine drifts for all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

#: What one run measured, by name; units stand in the name.
Figures: TypeAlias = Mapping[str, float]


class Absent(Exception):
    """A contender cannot run here; the text says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One thing to measure. ``note`` says how it was set up."""

    name: str
    run: Callable[[], Figures]
    note: str = ""
    is_ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """All runs of one contender, in order; ``missing`` says why there are none."""

    name: str
    note: str
    is_ours: bool
    runs: list[Figures] = field(default_factory=list)
    missing: str = ""

    def values(self, figure: str) -> list[float]:
        """Return one figure of every run that has it."""
        return [run[figure] for run in self.runs if figure in run]

    def median(self, figure: str) -> float:
        """Return the median of one figure."""
        return statistics.median(self.values(figure))

    def has(self, figure: str) -> bool:
        """Return whether any run measured this."""
        return bool(self.values(figure))


def hold(contenders: Sequence[Contender], rounds: int) -> list[Series]:
    """Run every contender ``rounds`` times in turn, printing each run as it ends."""
    series = {
        one.name: Series(name=one.name, note=one.note, is_ours=one.is_ours) for one in contenders
    }
    width = max(len(one.name) for one in contenders)
    for turn in range(1, rounds + 1):
        for contender in contenders:
            own = series[contender.name]
            if own.missing:
                continue
            try:
                figures = contender.run()
            except Absent as error:
                series[own.name] = replace(own, missing=str(error))
                print(f"  {contender.name:<{width}}  absent: {error}", flush=True)
                continue
            own.runs.append(figures)
            print(f"  {turn}  {contender.name:<{width}}  {said(figures)}", flush=True)
    return list(series.values())


def ratio(ours: Series, theirs: Series, figure: str) -> float:
    """Return the median over the rounds of ours divided by theirs: neighbours in time compared."""
    pairs = zip(ours.values(figure), theirs.values(figure), strict=False)
    return statistics.median(own / other for own, other in pairs)


def said(figures: Figures) -> str:
    """Return figures as one line."""
    return "  ".join(f"{name} {number(value)}" for name, value in figures.items())


def number(value: float) -> str:
    """Return a number as people read it: three digits that count, thousands apart."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.3g}"
