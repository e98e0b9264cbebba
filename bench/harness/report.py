"""What a bench found: printed, as JSON, and as the Markdown that ``docs/benchmarks.md`` shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.harness.contest import Series, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A figure and what it should reach: at least ``least``, or at most ``most``."""

    what: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        """Return whether the figure reaches the bar."""
        above = self.least is None or self.value >= self.least
        return above and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        """Return the figure, its bar, and whether it is met."""
        bar = f">= {number(self.least)}" if self.least is not None else ""
        bar += f"<= {number(self.most)}" if self.most is not None else ""
        verdict = "met" if self.is_met else "**missed**"
        return f"{self.what}: {number(self.value)}; bar {bar}, {verdict}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One bench's result. ``headline`` is the figure that is compared."""

    name: str
    title: str
    explanation: str
    headline: str
    parameters: Mapping[str, Any]
    series: Sequence[Series]
    bars: Sequence[Bar] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """Return the report as a section of a page."""
        return "\n".join([f"## {self.name}: {self.title}", "", self.explanation, "", *self._body()])

    def _body(self) -> Iterator[str]:
        yield f"![{self.title}]({self.name}.svg)"
        yield ""
        yield from _table(self)
        yield ""
        yield from _notes(self.series)
        for bar in self.bars:
            yield f"- {bar}"
        yield ""
        yield "Runs: " + "; ".join(
            f"{one.name} {', '.join(map(number, one.values(self.headline)))}"
            for one in self.series
            if one.has(self.headline)
        )
        yield ""
        yield "Parameters: " + ", ".join(f"{key} {value}" for key, value in self.parameters.items())
        yield ""
        yield "Environment: " + "; ".join(
            f"{key} {value}" for key, value in self.environment.items()
        )

    def as_json(self) -> str:
        """Return everything that was measured."""
        content = {
            "name": self.name,
            "headline": self.headline,
            "parameters": dict(self.parameters),
            "environment": dict(self.environment),
            "series": [
                {"name": one.name, "note": one.note, "missing": one.missing, "runs": one.runs}
                for one in self.series
            ],
            "bars": [
                {
                    "what": bar.what,
                    "value": bar.value,
                    "least": bar.least,
                    "most": bar.most,
                    "is_met": bar.is_met,
                }
                for bar in self.bars
            ],
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _table(report: Report) -> Iterator[str]:
    ran = [one for one in report.series if one.runs]
    names = {report.headline: None} | {
        name: None for one in ran for run in one.runs for name in run
    }
    yield "| | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * len(names)
    for one in ran:
        cells = [number(one.median(name)) if one.has(name) else "" for name in names]
        yield f"| {one.name} | " + " | ".join(cells) + " |"


def _notes(series: Sequence[Series]) -> Iterator[str]:
    notes = [
        f"- {one.name}: {f'not run, {one.missing}' if one.missing else one.note}."
        for one in series
        if one.missing or one.note
    ]
    if notes:
        yield from (*notes, "")
