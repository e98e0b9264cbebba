"""Rows of any kind, read as a table; and a table written as CSV.

Rows may be an iterable of sequences, of mappings, of dataclasses or of named tuples; what a
SQLAlchemy query returns; a pandas or polars frame. All but plain sequences bring the names of
their columns along. They are read one at a time, so a million rows cost no more memory than one.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from operator import itemgetter
from typing import Any, BinaryIO

from postroom.errors import AttachmentError, named
from postroom.message.content_source import ReadOnce
from postroom.text import shorten_repr

#: What `table` reads: an iterable of rows, or a frame.
Rows = Any

Row = Sequence[Any]

_ROWS_A_WRITE = 500

#: What a spreadsheet program runs as a formula where a CSV cell starts with it (OWASP).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvStyle:
    """How a CSV file is written.

    Attributes:
        delimiter: The one character between two cells.
        bom: Whether the file starts with a byte order mark. Excel then reads it as UTF-8, where
            it would otherwise garble every letter outside ASCII. Programs rarely expect one.
        escape_formulas: Whether to put an apostrophe before text that a spreadsheet program would
            run as a formula (``=``, ``+``, ``-``, ``@``, tab or return at its start). Switch it
            on where cells hold what strangers typed and people open the file. It changes the text
            (``+49 30 …`` becomes ``'+49 30 …``); `Attachment.excel` does not need it.
    """

    delimiter: str = ","
    bom: bool = False
    escape_formulas: bool = False

    def __post_init__(self) -> None:
        """Refuse a delimiter that cannot be one."""
        is_text = isinstance(self.delimiter, str)
        if not is_text or len(self.delimiter) != 1 or self.delimiter in '"\r\n\0':
            raise AttachmentError(
                f"expected a CSV delimiter to be one character, got: {shorten_repr(self.delimiter)}"
            )
        encoded(self.delimiter, "the delimiter")
        for name in ("bom", "escape_formulas"):
            if not isinstance(getattr(self, name), bool):
                raise AttachmentError(
                    f"{name} must be True or False, not {shorten_repr(getattr(self, name))}"
                )


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one width, with the names of the columns where they are known."""

    header: tuple[str, ...] | None
    rows: Iterator[Row]


def table(rows: Rows, columns: Sequence[str] | None = None) -> Table:
    """Read ``rows`` as a table; ``columns`` names those of plain sequences or chooses from others.

    Raises:
        AttachmentError: ``rows`` are no rows, or one of them does not fit the first.
    """
    names = None if columns is None else tuple(columns)
    header, found = _named_rows(rows)
    if header is None or names is None:
        return _plain(names or header, found)
    return _plain(names, map(_choice(header, names), found))


def columns_of(columns: Any) -> tuple[str, ...] | None:
    """Return the names of columns.

    Raises:
        AttachmentError: they are no list of texts.
    """
    if columns is None:
        return None
    is_list = isinstance(columns, Sequence) and not isinstance(columns, str | bytes)
    if not is_list or not all(isinstance(name, str) for name in columns):
        raise AttachmentError(f"columns must be a list of names, not {shorten_repr(columns)}")
    return tuple(columns)


def _named_rows(rows: Rows) -> tuple[tuple[str, ...] | None, Iterator[Row]]:
    """Return the names that ``rows`` bring, and each row as a sequence."""
    if hasattr(rows, "iter_rows"):  # polars.DataFrame
        return tuple(rows.columns), rows.iter_rows()
    if hasattr(rows, "itertuples"):  # pandas.DataFrame
        found = rows.itertuples(index=False, name=None)
        return tuple(map(str, rows.columns)), map(_without_missing, found)
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise AttachmentError(
            "expected rows to be an iterable of sequences, mappings or dataclasses, a query "
            f"result or a frame, got: {type(rows).__name__}"
        )
    found = iter(rows)
    first = next(found, None)
    if first is None:
        return _keys_of(rows), iter(())
    names, read = _reader(first)
    return names, map(read, chain([first], found))


def is_missing(value: Any) -> bool:
    """Return whether there is nothing: None, NaN, and pandas' NaT and NA."""
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Decimal):
        return value.is_nan()  # of a signalling NaN, math.isnan cannot say it
    return type(value).__name__ in {"NaTType", "NAType"}


def _without_missing(row: Row) -> Row:
    return [None if is_missing(cell) else cell for cell in row]


def _keys_of(result: Any) -> tuple[str, ...] | None:
    """Return the columns of a query result, which it knows even where it found nothing."""
    return tuple(result.keys()) if hasattr(result, "keys") else None


def _reader(first: Any) -> tuple[tuple[str, ...] | None, Callable[[Any], Row]]:
    """Return the columns that the first row names, and how to read all of them."""
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = tuple(field.name for field in dataclasses.fields(first))
        return names, lambda row: _attributes(row, names)
    if isinstance(first, Mapping):
        names = tuple(map(str, first))
        return names, lambda row: _values(row, names)
    return getattr(first, "_fields", None), _sequence  # named tuples and SQLAlchemy's rows


def _attributes(row: Any, names: tuple[str, ...]) -> Row:
    try:
        return [getattr(row, name) for name in names]
    except AttributeError as error:
        raise _misfit(row, names) from error


def _values(row: Any, names: tuple[str, ...]) -> Row:
    if not isinstance(row, Mapping) or len(row) > len(names) or not row.keys() <= set(names):
        raise _misfit(row, names)
    return [row.get(name) for name in names]


def _sequence(row: Any) -> Row:
    if isinstance(row, str | bytes) or not isinstance(row, Sequence):
        raise AttachmentError(
            "expected a row to be a sequence, a mapping or a dataclass like the first one, "
            f"got: {type(row).__name__}; name its columns, as in [x.id, x.email]"
        )
    return row


def _misfit(row: Any, names: tuple[str, ...]) -> AttachmentError:
    got = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
    return AttachmentError(
        f"expected every row to have the columns of the first ({', '.join(names)}), got: {got}"
    )


def _choice(header: tuple[str, ...], names: tuple[str, ...]) -> Callable[[Row], Row]:
    """Return how to pick ``names`` from rows with ``header``."""
    missing = [name for name in names if name not in header]
    if missing or not names:
        raise AttachmentError(
            f"expected columns to be among {', '.join(header)}, got: {', '.join(missing) or 'none'}"
        )
    places = [header.index(name) for name in names]
    pick = itemgetter(*places)
    return pick if len(places) > 1 else lambda row: (pick(row),)


def _plain(header: tuple[str, ...] | None, rows: Iterator[Row]) -> Table:
    return Table(header, rows if header is None else _of_width(rows, len(header)))


def _of_width(rows: Iterator[Row], width: int) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise AttachmentError(f"expected row {number} to have {width} columns, got: {len(row)}")
        yield row


def write_csv(
    supply: ReadOnce[Rows], file: BinaryIO, *, columns: Sequence[str] | None, style: CsvStyle
) -> None:
    """Write the rows of ``supply`` into ``file``; None becomes an empty cell."""
    read = table(supply.take(), columns)
    rows = chain([] if read.header is None else [read.header], read.rows)
    if style.bom:
        file.write(BOM_UTF8)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=style.delimiter, lineterminator="\r\n")
    while some := list(islice(rows, _ROWS_A_WRITE)):
        try:
            writer.writerows(map(_escaped, some) if style.escape_formulas else some)
        except Exception as error:  # of a cell's own making, in its __str__
            raise AttachmentError(f"a cell cannot be written as text ({named(error)})") from error
        file.write(encoded(buffer.getvalue()))
        buffer.seek(0)
        buffer.truncate()


def encoded(text: str, what: str = "a cell") -> bytes:
    """Return ``text`` in UTF-8.

    Raises:
        AttachmentError: it holds a lone surrogate, which has none. The text calls it ``what``.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        near = text[max(error.start - 20, 0) : error.end]
        raise AttachmentError(
            f"{what} must be text, and there is a lone surrogate in {near!r}; remove it"
        ) from error


def _escaped(row: Row) -> Row:
    return [
        f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell
        for cell in row
    ]
