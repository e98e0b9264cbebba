"""Writes tables as an Excel workbook with XlsxWriter (extra ``excel``).

One row is in memory at a time, and no number or text is changed on the way.
"""

from __future__ import annotations

import datetime as dt
import math
import shutil
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from postroom.errors import AttachmentError, ConfigError, named
from postroom.message.content_source import ReadOnce
from postroom.message.csv_table import Row, Rows, encoded, is_missing, read_table
from postroom.text import shorten_repr

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

#: The limits of Excel.
MAX_ROWS = 1_048_576
MAX_COLUMNS = 16_384
MAX_CELL_CHARACTERS = 32_767

#: Excel stores numbers as IEEE doubles and shows 15 digits. Longer numbers (card numbers, barcodes)
#: are written as text, so that no digit changes.
_EXACT_DIGITS = 15
_EXACT_BELOW = 10**15
#: The largest double is about 1.8E+308, the smallest with all of its digits 2.2E-308.
_MAX_EXPONENT = 307

#: A fixed time: the same rows give the same bytes, so the same file is stored once.
_CREATED = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - Excel's times have no zone
_FIRST_DATE = dt.datetime(1900, 1, 1)  # noqa: DTZ001

_FORMATS = {
    "date": "yyyy-mm-dd",
    "datetime": "yyyy-mm-dd hh:mm:ss",
    "time": "hh:mm:ss",
    "duration": "[h]:mm:ss",
}

Sheets = Mapping[str, ReadOnce[Rows]]


def sheets_of(rows: Rows | Mapping[str, Rows], filename: str) -> Sheets:
    """Return the rows of each sheet, by its name.

    Args:
        rows: The rows of one sheet, or a mapping from names of sheets to rows.
        filename: The file name of the attachment, for errors.

    Raises:
        ConfigError: The extra ``excel`` is not installed.
        AttachmentError: The mapping is empty.
    """
    _xlsxwriter()
    named = rows if isinstance(rows, Mapping) else {"Sheet1": rows}
    if not named:
        raise AttachmentError(f"{filename!r} must have at least one sheet")
    return {str(name): ReadOnce(source, filename) for name, source in named.items()}


def write_workbook(sheets: Sheets, file: BinaryIO, *, columns: Sequence[str] | None) -> None:
    """Write a workbook into ``file``.

    Numbers, booleans, dates, times and durations become cells of their type; a datetime is written
    in its own time zone. None and NaN become empty cells, everything else becomes text.

    Args:
        sheets: The rows of each sheet, by its name.
        file: Where to write the workbook.
        columns: See `postroom.message.csv_table.read_table`.

    Raises:
        AttachmentError: Excel cannot hold the name, the size or a text of a sheet.
    """
    xlsxwriter = _xlsxwriter()
    with TemporaryDirectory(prefix="postroom-") as folder:
        # Not into ``file`` directly: the garbage collector completes an unfinished ZIP, and would
        # write into a file that has refused the first half.
        path = Path(folder) / "book.xlsx"
        book = xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": folder})
        try:
            _fill(book, sheets, columns)
            book.close()
        finally:
            for sheet in book.worksheets():
                sheet.row_data_fh.close()  # XlsxWriter closes it only if nothing fails
        with path.open("rb") as content:
            shutil.copyfileobj(content, file)


def _fill(book: Any, sheets: Sheets, columns: Sequence[str] | None) -> None:
    book.set_properties({"created": _CREATED})
    formats = {name: book.add_format({"num_format": code}) for name, code in _FORMATS.items()}
    bold = book.add_format({"bold": True})
    for name, source in sheets.items():
        _Sheet(_worksheet(book, name), formats, bold).write(source.take(), columns)


def _worksheet(book: Any, name: str) -> Any:
    encoded(name, "the name of a sheet")
    try:
        if name:
            return book.add_worksheet(name)
    except _xlsxwriter().exceptions.XlsxWriterException:
        pass
    raise AttachmentError(
        "the name of a sheet must be unique, with 1 to 31 characters and none of []:*?/\\, not "
        f"{shorten_repr(name)}"
    )


class _Sheet:
    """A worksheet that is filled row by row."""

    def __init__(self, sheet: Any, formats: Mapping[str, Any], bold: Any) -> None:
        self._sheet = sheet
        self._formats = formats
        self._bold = bold
        self._row = 0

    def write(self, rows: Rows, columns: Sequence[str] | None) -> None:
        table = read_table(rows, columns)
        if table.header is not None:
            self._write_row(table.header, self._bold)
            self._sheet.freeze_panes(1, 0)
        for row in table.rows:
            self._write_row(row)

    def _write_row(self, row: Row, style: Any = None) -> None:
        if self._row >= MAX_ROWS or len(row) > MAX_COLUMNS:
            raise AttachmentError(
                f"the sheet {self._sheet.get_name()!r} has more than {MAX_ROWS:,} rows or "
                f"{MAX_COLUMNS:,} columns; use Attachment.csv or several sheets"
            )
        for column, value in enumerate(row):
            self._write_cell(column, value, style)
        self._row += 1

    def _write_cell(self, column: int, value: Any, style: Any) -> None:
        position = (self._row, column)
        if isinstance(value, str):
            self._write_text(position, value, style)
        elif is_missing(value):
            return
        elif isinstance(value, bool):
            self._sheet.write_boolean(*position, value, style)
        elif _is_exact(value):
            self._sheet.write_number(*position, value, style)
        elif (format_name := _time_format(value)) is not None:
            # XlsxWriter takes no time zones: what the clock on the wall showed is written.
            plain = value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value
            self._sheet.write_datetime(*position, plain, self._formats[format_name])
        else:
            self._write_text(position, _text_of(value), style)

    def _write_text(self, position: tuple[int, int], text: str, style: Any) -> None:
        if not text.isascii():
            encoded(text)
        if len(text) > MAX_CELL_CHARACTERS:
            raise AttachmentError(
                f"a cell of the sheet {self._sheet.get_name()!r} may have at most "
                f"{MAX_CELL_CHARACTERS:,} characters, not {len(text):,} as in row {position[0] + 1}"
            )
        self._sheet.write_string(*position, text, style)


def _is_exact(value: object) -> bool:
    """Return whether it is a number that Excel does not change."""
    if isinstance(value, Decimal):
        is_short = value.is_finite() and len(value.as_tuple().digits) <= _EXACT_DIGITS
        return is_short and (not value or abs(value.adjusted()) <= _MAX_EXPONENT)
    if isinstance(value, Integral):
        return abs(int(value)) < _EXACT_BELOW
    if not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a fraction too large for a float
        return False


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # raised by __str__ of a cell
        raise AttachmentError(f"a cell cannot be written as text ({named(error)})") from error


def _time_format(value: Any) -> str | None:
    """Return the format for a date, time or duration; None if Excel cannot hold it."""
    if isinstance(value, dt.datetime):
        return "datetime" if value.replace(tzinfo=None) >= _FIRST_DATE else None
    if isinstance(value, dt.date):
        return "date" if value >= _FIRST_DATE.date() else None
    if isinstance(value, dt.time):
        return "time"
    return "duration" if isinstance(value, dt.timedelta) and value >= dt.timedelta() else None


def _xlsxwriter() -> Any:
    """Import XlsxWriter when it is needed: it is optional, and slow to import."""
    try:
        return import_module("xlsxwriter")
    except ImportError as error:
        raise ConfigError(
            "Attachment.excel needs the excel extra; run: pip install 'postroom[excel]'"
        ) from error
