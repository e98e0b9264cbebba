"""A bar chart of a report's headline figure, as an SVG that needs no library to show."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bench.harness.contest import Series, number
from bench.harness.report import Report

_ROW = 26
_LABELS = 280
_BARS = 360
_WIDTH = _LABELS + _BARS + 90
_OURS = "#2f6f4f"
_OTHERS = "#9aa5b1"


def svg(report: Report) -> str:
    """Return the chart: a row for each series, its median as the bar's length."""
    series = [one for one in report.series if one.has(report.headline)]
    height = _ROW * len(series) + 34
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="13">',
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            f'<text x="8" y="20" font-weight="bold">{escape(report.title)}, '
            f"{escape(report.headline)}</text>",
            *_rows(series, report.headline),
            "</svg>\n",
        ]
    )


def _rows(series: list[Series], headline: str) -> Iterator[str]:
    longest = max(one.median(headline) for one in series)
    for position, one in enumerate(series):
        value = one.median(headline)
        top = 30 + position * _ROW
        width = max(1.0, value / longest * _BARS)
        colour = _OURS if one.is_ours else _OTHERS
        yield f'<text x="{_LABELS - 8}" y="{top + 16}" text-anchor="end">{escape(one.name)}</text>'
        yield f'<rect x="{_LABELS}" y="{top + 3}" width="{width:.1f}" height="18" fill="{colour}"/>'
        yield f'<text x="{_LABELS + width + 6:.1f}" y="{top + 16}">{number(value)}</text>'
