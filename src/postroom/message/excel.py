"""Tables written as an Excel workbook, a row at a time, by XlsxWriter (extra ``excel``)."""

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
from postroom.message.csv_table import Row, Rows, encoded, is_missing, table
from postroom.text import shorten_repr

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

#: Excel's own limits.
MAX_ROWS = 1_048_576
MAX_COLUMNS = 16_384
MAX_CELL_CHARACTERS = 32_767

#: Excel keeps numbers as IEEE doubles and shows 15 digits: longer ones (card numbers, barcodes)
#: are written as text, so that none is changed.
_EXACT_DIGITS = 15
_EXACT_BELOW = 10**15
#: The largest double is about 1.8E+308, the smallest with all of its digits 2.2E-308.
_LARGEST_EXPONENT = 307

#: The same rows give the same bytes, so that the same file is stored once.
_CREATED = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - Excel's times know no zone
_FIRST_DATE = dt.datetime(1900, 1, 1)  # noqa: DTZ001

_FORMATS = {
    "date": "yyyy-mm-dd",
    "datetime": "yyyy-mm-dd hh:mm:ss",
    "time": "hh:mm:ss",
    "duration": "[h]:mm:ss",
}

Sheets = Mapping[str, ReadOnce[Rows]]


def sheets_of(rows: Rows | Mapping[str, Rows], filename: str) -> Sheets:
    """Return ``rows`` by the name of their sheet: one, or what a mapping holds.

    Raises:
        ConfigError: the extra ``excel`` is not installed.
        AttachmentError: a mapping without a sheet.
    """
    _xlsxwriter()
    named = rows if isinstance(rows, Mapping) else {"Sheet1": rows}
    if not named:
        raise AttachmentError(f"expected {filename!r} to have at least one sheet, got: none")
    return {str(name): ReadOnce(supply, filename) for name, supply in named.items()}


def write_workbook(sheets: Sheets, file: BinaryIO, *, columns: Sequence[str] | None) -> None:
    """Write each sheet into ``file``, holding one row in memory at a time.

    Numbers, booleans, dates, times and durations are cells of their kind; a moment with a time
    zone is written as the clock there showed it. None and NaN are empty cells. All else is text.

    Raises:
        AttachmentError: a sheet's name, size or text is more than Excel can hold.
    """
    xlsxwriter = _xlsxwriter()
    with TemporaryDirectory(prefix="postroom-") as folder:
        # A file of its own: a ZIP that is left half-written would be completed by the garbage
        # collector, into a file that may have refused the first half.
        whole = Path(folder) / "book.xlsx"
        book = xlsxwriter.Workbook(str(whole), {"constant_memory": True, "tmpdir": folder})
        try:
            _fill(book, sheets, columns)
            book.close()
        finally:
            for sheet in book.worksheets():
                sheet.row_data_fh.close()  # which XlsxWriter does only where nothing fails
        with whole.open("rb") as content:
            shutil.copyfileobj(content, file)


def _fill(book: Any, sheets: Sheets, columns: Sequence[str] | None) -> None:
    book.set_properties({"created": _CREATED})
    formats = {name: book.add_format({"num_format": code}) for name, code in _FORMATS.items()}
    bold = book.add_format({"bold": True})
    for name, supply in sheets.items():
        _Sheet(_worksheet(book, name), formats, bold).write(supply.take(), columns)


def _worksheet(book: Any, name: str) -> Any:
    encoded(name, "the name of a sheet")
    try:
        if name:
            return book.add_worksheet(name)
    except _xlsxwriter().exceptions.XlsxWriterException:
        pass
    raise AttachmentError(
        "expected the name of a sheet to be unique, of 1 to 31 characters, without any of "
        f"[]:*?/\\, got: {shorten_repr(name)}"
    )


class _Sheet:
    """One worksheet being filled from the top."""

    def __init__(self, sheet: Any, formats: Mapping[str, Any], bold: Any) -> None:
        self._sheet = sheet
        self._formats = formats
        self._bold = bold
        self._row = 0

    def write(self, rows: Rows, columns: Sequence[str] | None) -> None:
        read = table(rows, columns)
        if read.header is not None:
            self._write_row(read.header, self._bold)
            self._sheet.freeze_panes(1, 0)
        for row in read.rows:
            self._write_row(row)

    def _write_row(self, row: Row, style: Any = None) -> None:
        if self._row >= MAX_ROWS or len(row) > MAX_COLUMNS:
            raise AttachmentError(
                f"expected sheet {self._sheet.get_name()!r} to have at most {MAX_ROWS:,} rows of "
                f"{MAX_COLUMNS:,} columns, got more; use Attachment.csv or several sheets"
            )
        for column, value in enumerate(row):
            self._write_cell(column, value, style)
        self._row += 1

    def _write_cell(self, column: int, value: Any, style: Any) -> None:
        place = (self._row, column)
        if isinstance(value, str):
            self._write_text(place, value, style)
        elif is_missing(value):
            return
        elif isinstance(value, bool):
            self._sheet.write_boolean(*place, value, style)
        elif _is_exact(value):
            self._sheet.write_number(*place, value, style)
        elif (kind := _kind_of_time(value)) is not None:
            # XlsxWriter takes no time zones: what the clock on the wall showed is written.
            plain = value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value
            self._sheet.write_datetime(*place, plain, self._formats[kind])
        else:
            self._write_text(place, _text_of(value), style)

    def _write_text(self, place: tuple[int, int], text: str, style: Any) -> None:
        if not text.isascii():
            encoded(text)
        if len(text) > MAX_CELL_CHARACTERS:
            raise AttachmentError(
                f"expected a cell of sheet {self._sheet.get_name()!r} to have at most "
                f"{MAX_CELL_CHARACTERS:,} characters, got: {len(text):,} in row {place[0] + 1}"
            )
        self._sheet.write_string(*place, text, style)


def _is_exact(value: object) -> bool:
    """Return whether it is a number that Excel keeps as it is."""
    if isinstance(value, Decimal):
        is_short = value.is_finite() and len(value.as_tuple().digits) <= _EXACT_DIGITS
        return is_short and (not value or abs(value.adjusted()) <= _LARGEST_EXPONENT)
    if isinstance(value, Integral):
        return abs(int(value)) < _EXACT_BELOW
    if not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a fraction beyond all floats
        return False


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # of a cell's own making, in its __str__
        raise AttachmentError(f"a cell cannot be written as text ({named(error)})") from error


def _kind_of_time(value: Any) -> str | None:
    """Return the kind of cell for a date, time or duration that Excel can hold."""
    if isinstance(value, dt.datetime):
        return "datetime" if value.replace(tzinfo=None) >= _FIRST_DATE else None
    if isinstance(value, dt.date):
        return "date" if value >= _FIRST_DATE.date() else None
    if isinstance(value, dt.time):
        return "time"
    return "duration" if isinstance(value, dt.timedelta) and value >= dt.timedelta() else None


def _xlsxwriter() -> Any:
    """Import what is optional, and slow to import, when it is needed."""
    try:
        return import_module("xlsxwriter")
    except ImportError as error:
        raise ConfigError(
            "expected the extra 'excel' to be installed for Attachment.excel, got: no xlsxwriter; "
            "run: pip install 'postroom[excel]'"
        ) from error
