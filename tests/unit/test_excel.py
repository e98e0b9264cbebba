"""Excel workbooks, read back by a library that did not write them."""
# ruff: noqa: DTZ001 - the times of Excel know no zone

from __future__ import annotations

import datetime as dt
import io
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import openpyxl
import pandas as pd
import pytest

from postroom.errors import AttachmentError, ConfigError
from postroom.message.attachment import Attachment
from postroom.message.content_source import WriterSource
from postroom.message.excel import MAX_CELL_CHARACTERS


def content(rows: Any, columns: Sequence[str] | None = None) -> bytes:
    attachment = Attachment.excel("a.xlsx", rows, columns=columns)
    assert isinstance(attachment.source, WriterSource)
    file = io.BytesIO()
    attachment.source.write(file)
    return file.getvalue()


def book(rows: Any, columns: Sequence[str] | None = None) -> openpyxl.Workbook:
    return openpyxl.load_workbook(io.BytesIO(content(rows, columns)))


def cell(value: Any) -> Any:
    """Write one value, read it back."""
    return book([[value]])["Sheet1"]["A1"].value


def test_rows_become_a_sheet_with_a_header() -> None:
    sheet = book([{"sku": "A-1", "amount": 2}, {"sku": "B-2", "amount": 3}])["Sheet1"]
    assert list(sheet.values) == [("sku", "amount"), ("A-1", 2), ("B-2", 3)]
    assert sheet["A1"].font.bold


def test_a_mapping_gives_several_sheets() -> None:
    read = book({"Sold": [["A-1", 2]], "Returned": pd.DataFrame({"sku": ["B-2"]})})
    assert read.sheetnames == ["Sold", "Returned"]
    assert list(read["Returned"].values) == [("sku",), ("B-2",)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        (1.5, 1.5),
        (True, True),
        (Decimal("12.34"), 12.34),
        (Decimal("1E+300"), 1e300),
        (Decimal("1E+400"), "1E+400"),
        (Decimal("1E-400"), "1E-400"),
        (Decimal("sNaN"), None),
        (Decimal("Infinity"), "Infinity"),
        (Decimal(0), 0),
        ("text", "text"),
        (None, None),
        (float("nan"), None),
        (Decimal("NaN"), None),
        (pd.NaT, None),
        (pd.NA, None),
        (dt.datetime(2025, 3, 1, 12, 30), dt.datetime(2025, 3, 1, 12, 30)),
        (dt.time(12, 30), dt.time(12, 30)),
        (dt.timedelta(hours=30), dt.timedelta(hours=30)),
        (float("inf"), "inf"),
        (UUID(int=7), str(UUID(int=7))),
    ],
)
def test_a_value_is_a_cell_of_its_kind(value: Any, expected: Any) -> None:
    assert cell(value) == expected


def test_a_date_is_a_date() -> None:
    assert cell(dt.date(2025, 3, 1)) == dt.datetime(2025, 3, 1)


def test_a_moment_with_a_zone_is_what_the_clock_there_showed() -> None:
    tokyo = dt.timezone(dt.timedelta(hours=9))
    assert cell(dt.datetime(2025, 3, 1, 12, 30, tzinfo=tokyo)) == dt.datetime(2025, 3, 1, 12, 30)


@pytest.mark.parametrize("long", [4111_1111_1111_1111, Decimal("1234567890.1234567"), -(10**15)])
def test_a_number_that_excel_would_change_is_text(long: Any) -> None:
    assert cell(long) == str(long)


def test_a_date_before_excel_s_calendar_is_text() -> None:
    assert cell(dt.date(1815, 12, 10)) == "1815-12-10"


@pytest.mark.parametrize("text", ['=HYPERLINK("http://x.example")', "{=1}", "http://x.example"])
def test_text_stays_text(text: str) -> None:
    written = book([[text]])["Sheet1"]["A1"]
    assert (written.value, written.data_type) == (text, "s")
    assert written.hyperlink is None


def test_the_same_rows_give_the_same_bytes() -> None:
    assert content([["a", 1]]) == content([["a", 1]])


@pytest.mark.parametrize("name", ["a" * 32, "a/b", ""])
def test_a_sheet_s_name_that_excel_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(AttachmentError, match="the name of a sheet must be unique"):
        content({name: [[1]]})


def test_two_sheets_of_one_name_are_refused() -> None:
    with pytest.raises(AttachmentError, match="unique"):
        content({"Sold": [[1]], "sold": [[2]]})


def test_a_workbook_without_a_sheet_is_refused() -> None:
    with pytest.raises(AttachmentError, match="at least one sheet"):
        Attachment.excel("a.xlsx", {})


def test_more_than_a_cell_can_hold_is_refused_not_cut() -> None:
    with pytest.raises(AttachmentError, match="in row 1"):
        content([["x" * (MAX_CELL_CHARACTERS + 1)]])


def test_a_cell_that_has_no_bytes_is_refused() -> None:
    with pytest.raises(AttachmentError, match="lone surrogate"):
        content([["a\ud800"]])


def test_control_characters_read_back() -> None:
    assert cell("a\x01b") == "a_x0001_b"  # as Excel itself stores it; openpyxl leaves it so


def test_more_columns_than_a_sheet_has_are_refused() -> None:
    with pytest.raises(AttachmentError, match="more than 1,048,576 rows or 16,384 columns"):
        content([range(16_385)])


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(ConfigError, match=r"postroom\[excel\]"):
        Attachment.excel("a.xlsx", [[1]])
