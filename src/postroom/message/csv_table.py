"""Reads rows of any kind as a table, and writes tables as CSV.

Rows are an iterable of sequences, mappings, dataclasses or named tuples, the result of a SQLAlchemy
query, or a frame of pandas or polars. All but plain sequences know the names of their columns. Rows
are read one at a time, so a million of them need no more memory than one.
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
from itertools import chain
from operator import itemgetter
from typing import Any, BinaryIO

from postroom.batching import batched
from postroom.errors import AttachmentError, named
from postroom.message.content_source import ReadOnce
from postroom.text import shorten_repr

#: What `read_table` reads: an iterable of rows, or a frame.
Rows = Any

Row = Sequence[Any]

_ROWS_PER_WRITE = 500

#: If a cell begins with one of these, a spreadsheet program runs it as a formula (OWASP).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvStyle:
    """How a CSV file is written.

    Attributes:
        delimiter: The character between two cells.
        bom: Begin the file with a byte order mark. Excel needs it to read letters outside ASCII;
            most programs do not expect it.
        escape_formulas: Write an apostrophe before text that a spreadsheet program would run as a
            formula (``=``, ``+``, ``-``, ``@``, tab or return at its start). Turn it on if cells
            contain what strangers typed and people open the file. It changes the text
            (``+49 30 …`` becomes ``'+49 30 …``). `Attachment.excel` does not need it.

    Raises:
        AttachmentError: One of them has no such value.
    """

    delimiter: str = ","
    bom: bool = False
    escape_formulas: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        is_text = isinstance(self.delimiter, str)
        if not is_text or len(self.delimiter) != 1 or self.delimiter in '"\r\n\0':
            raise AttachmentError(
                f"a CSV delimiter must be one character, not {shorten_repr(self.delimiter)}"
            )
        encoded(self.delimiter, "the delimiter")
        for name in ("bom", "escape_formulas"):
            if not isinstance(getattr(self, name), bool):
                raise AttachmentError(
                    f"{name} must be True or False, not {shorten_repr(getattr(self, name))}"
                )


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is read row by row.

    Attributes:
        header: The names of the columns; None if they are not known.
        rows: The rows; with a header, all of them are checked to have its width.
    """

    header: tuple[str, ...] | None
    rows: Iterator[Row]


def read_table(rows: Rows, columns: Sequence[str] | None = None) -> Table:
    """Return ``rows`` as a table.

    Args:
        rows: The rows.
        columns: For plain sequences, the names of the columns; for other rows, the columns to keep.
            None: all of them.

    Raises:
        AttachmentError: ``rows`` are not rows, or one of them does not match the first.
    """
    names = None if columns is None else tuple(columns)
    header, sequences = _named_rows(rows)
    if header is None or names is None:
        return _checked_table(names or header, sequences)
    return _checked_table(names, map(_column_picker(header, names), sequences))


def columns_of(columns: Any) -> tuple[str, ...] | None:
    """Return ``columns`` as a tuple, or None.

    Args:
        columns: The names of the columns, or None.

    Raises:
        AttachmentError: They are not a list of texts.
    """
    if columns is None:
        return None
    is_list = isinstance(columns, Sequence) and not isinstance(columns, str | bytes)
    if not is_list or not all(isinstance(name, str) for name in columns):
        raise AttachmentError(f"columns must be a list of names, not {shorten_repr(columns)}")
    return tuple(columns)


def _named_rows(rows: Rows) -> tuple[tuple[str, ...] | None, Iterator[Row]]:
    """Return the names of the columns, if ``rows`` have them, and each row as a sequence."""
    if hasattr(rows, "iter_rows"):  # polars.DataFrame
        return tuple(rows.columns), rows.iter_rows()
    if hasattr(rows, "itertuples"):  # pandas.DataFrame
        found = rows.itertuples(index=False, name=None)
        return tuple(map(str, rows.columns)), map(_without_missing, found)
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise AttachmentError(
            "rows must be an iterable of sequences, mappings or dataclasses, a query result or a "
            f"frame, not {type(rows).__name__}"
        )
    found = iter(rows)
    first = next(found, None)
    if first is None:
        return _keys_of(rows), iter(())
    names, read = _reader(first)
    return names, map(read, chain([first], found))


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: None, NaN, or NaT and NA of pandas.

    Args:
        value: The cell.
    """
    if value is None:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Decimal):
        return value.is_nan()  # math.isnan raises for a signaling NaN
    return type(value).__name__ in {"NaTType", "NAType"}


def _without_missing(row: Row) -> Row:
    return [None if is_missing(cell) else cell for cell in row]


def _keys_of(result: Any) -> tuple[str, ...] | None:
    """Return the columns of a query result, which it knows even without a row."""
    return tuple(result.keys()) if hasattr(result, "keys") else None


def _reader(first: Any) -> tuple[tuple[str, ...] | None, Callable[[Any], Row]]:
    """Return the columns of the first row, and a function that reads any row."""
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
        raise _mismatch(row, names) from error


def _values(row: Any, names: tuple[str, ...]) -> Row:
    if not isinstance(row, Mapping) or len(row) > len(names) or not row.keys() <= set(names):
        raise _mismatch(row, names)
    return [row.get(name) for name in names]


def _sequence(row: Any) -> Row:
    if isinstance(row, str | bytes) or not isinstance(row, Sequence):
        raise AttachmentError(
            "a row must be a sequence, a mapping or a dataclass like the first one, not "
            f"{type(row).__name__}; name its columns, as in [x.id, x.email]"
        )
    return row


def _mismatch(row: Any, names: tuple[str, ...]) -> AttachmentError:
    found = ", ".join(map(str, row)) if isinstance(row, Mapping) else type(row).__name__
    return AttachmentError(
        f"every row must have the columns of the first one ({', '.join(names)}), not {found}"
    )


def _column_picker(header: tuple[str, ...], names: tuple[str, ...]) -> Callable[[Row], Row]:
    """Return a function that picks ``names`` from rows with ``header``."""
    missing = [name for name in names if name not in header]
    if missing or not names:
        raise AttachmentError(
            f"columns must be some of {', '.join(header)}, not {', '.join(missing) or 'none'}"
        )
    positions = [header.index(name) for name in names]
    pick = itemgetter(*positions)
    return pick if len(positions) > 1 else lambda row: (pick(row),)


def _checked_table(header: tuple[str, ...] | None, rows: Iterator[Row]) -> Table:
    return Table(header, rows if header is None else _of_width(rows, len(header)))


def _of_width(rows: Iterator[Row], width: int) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise AttachmentError(f"row {number} must have {width} columns, not {len(row)}")
        yield row


def write_csv(
    source: ReadOnce[Rows], file: BinaryIO, *, columns: Sequence[str] | None, style: CsvStyle
) -> None:
    """Write rows into a file as CSV; None becomes an empty cell.

    Args:
        source: The rows.
        file: Where to write them, in UTF-8.
        columns: See `read_table`.
        style: How to write them.

    Raises:
        AttachmentError: The rows cannot be read, or a cell cannot be written.
    """
    table = read_table(source.take(), columns)
    rows = chain([] if table.header is None else [table.header], table.rows)
    if style.bom:
        file.write(BOM_UTF8)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=style.delimiter, lineterminator="\r\n")
    for batch in batched(rows, _ROWS_PER_WRITE):
        try:
            writer.writerows(map(_escaped, batch) if style.escape_formulas else batch)
        except Exception as error:  # raised by __str__ of a cell
            raise AttachmentError(f"a cell cannot be written as text ({named(error)})") from error
        file.write(encoded(buffer.getvalue()))
        buffer.seek(0)
        buffer.truncate()


def encoded(text: str, what: str = "a cell") -> bytes:
    """Return ``text`` in UTF-8.

    Args:
        text: The text.
        what: What an error calls it.

    Raises:
        AttachmentError: It contains a lone surrogate, which cannot be encoded.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        excerpt = text[max(error.start - 20, 0) : error.end]
        raise AttachmentError(
            f"{what} contains a lone surrogate, which cannot be encoded: {excerpt!r}; remove it"
        ) from error


def _escaped(row: Row) -> Row:
    return [
        f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell
        for cell in row
    ]
