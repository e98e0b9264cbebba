"""Rows of any kind become the same table, and a CSV file that reads back as it was."""

from __future__ import annotations

import csv
import io
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, text

from postroom.errors import AttachmentError
from postroom.message.attachment import Attachment
from postroom.message.content_source import ReadOnce, WriterSource
from postroom.message.csv_table import CsvStyle, Rows, read_table, write_csv


@dataclass
class Line:
    sku: str
    amount: int


Pair = namedtuple("Pair", "sku amount")

PLAIN = [("A-1", 2), ("B-2", 3)]


QUERY = text("SELECT 'A-1' AS sku, 2 AS amount UNION ALL SELECT 'B-2', 3 ORDER BY 1")


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def written(rows: Rows, columns: list[str] | None = None, style: CsvStyle | None = None) -> bytes:
    file = io.BytesIO()
    write_csv(ReadOnce(rows, "a.csv"), file, columns=columns, style=style or CsvStyle())
    return file.getvalue()


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([{"sku": sku, "amount": amount} for sku, amount in PLAIN], id="mappings"),
        pytest.param([Line(*pair) for pair in PLAIN], id="dataclasses"),
        pytest.param([Pair(*pair) for pair in PLAIN], id="named tuples"),
        pytest.param(pd.DataFrame(PLAIN, columns=["sku", "amount"]), id="pandas"),
        pytest.param(pl.DataFrame(PLAIN, schema=["sku", "amount"], orient="row"), id="polars"),
    ],
)
def test_rows_that_name_their_columns_bring_a_header(rows: Rows) -> None:
    assert written(rows) == b"sku,amount\r\nA-1,2\r\nB-2,3\r\n"


def test_a_query_s_result_brings_a_header(connection: Connection) -> None:
    result = connection.execute(QUERY)
    assert written(result) == b"sku,amount\r\nA-1,2\r\nB-2,3\r\n"
    found = connection.execute(QUERY).all()
    assert written(found) == b"sku,amount\r\nA-1,2\r\nB-2,3\r\n"
    mappings = connection.execute(QUERY).mappings()
    assert written(mappings) == b"sku,amount\r\nA-1,2\r\nB-2,3\r\n"


def test_an_empty_result_still_has_its_header(connection: Connection) -> None:
    assert written(connection.execute(text("SELECT 1 AS a, 2 AS b WHERE 0"))) == b"a,b\r\n"
    assert written(pd.DataFrame(columns=["a", "b"])) == b"a,b\r\n"


def test_plain_sequences_have_a_header_where_one_is_given() -> None:
    assert written(PLAIN) == b"A-1,2\r\nB-2,3\r\n"
    assert written(PLAIN, ["sku", "amount"]) == b"sku,amount\r\nA-1,2\r\nB-2,3\r\n"


@pytest.mark.parametrize(
    "rows", [[Line(*pair) for pair in PLAIN], pd.DataFrame(PLAIN, columns=["sku", "amount"])]
)
def test_columns_choose_and_order(rows: Rows) -> None:
    assert written(rows, ["amount", "sku"]) == b"amount,sku\r\n2,A-1\r\n3,B-2\r\n"
    assert written(rows, ["sku"]) == b"sku\r\nA-1\r\nB-2\r\n"


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(AttachmentError, match="some of sku, amount, not price"):
        written([Line("A-1", 2)], ["price"])


def test_a_mapping_that_lacks_a_column_leaves_it_empty() -> None:
    assert written([{"a": 1, "b": 2}, {"a": 3}]) == b"a,b\r\n1,2\r\n3,\r\n"


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1}, {"a": 1, "b": 2}],
        [{"a": 1}, {"b": 2}],
        [{"a": 1}, (1,)],
        [Line("A", 1), object()],
        [(1, 2), "ab"],
        [Pair("a", 1), ("a", 1, 2)],
    ],
)
def test_a_row_unlike_the_first_is_refused(rows: Rows) -> None:
    with pytest.raises(AttachmentError, match=r"must (be|have)"):
        written(rows)


@pytest.mark.parametrize("rows", ["text", b"bytes", {"a": [1]}, 7, [object()]])
def test_what_holds_no_rows_is_refused(rows: Rows) -> None:
    with pytest.raises(AttachmentError, match=r"must (be|have)"):
        written(rows)


def test_rows_are_read_one_at_a_time() -> None:
    read: list[int] = []

    def rows() -> Iterator[tuple[int]]:
        for number in range(3):
            read.append(number)
            yield (number,)

    lines = read_table(rows()).rows
    next(lines)
    assert read == [0]


def test_what_a_frame_misses_is_an_empty_cell() -> None:
    frame = pd.DataFrame({"a": [1.5, None], "b": [pd.NaT, pd.Timestamp("2025-03-01")]})
    assert written(frame) == b"a,b\r\n1.5,\r\n,2025-03-01 00:00:00\r\n"
    assert written(pl.DataFrame({"a": [None, 1], "b": [2, 3]})) == b"a,b\r\n,2\r\n1,3\r\n"


def test_many_rows_are_written_in_order() -> None:
    numbers = range(2_001)
    assert written([n] for n in numbers) == b"".join(b"%d\r\n" % n for n in numbers)


def test_a_cell_that_has_no_bytes_is_refused() -> None:
    with pytest.raises(AttachmentError, match="lone surrogate"):
        written([["a\ud800"]])


def test_a_byte_order_mark_and_another_delimiter_suit_excel() -> None:
    style = CsvStyle(delimiter=";", bom=True)
    assert written([("ä", 1)], style=style) == "\ufeffä;1\r\n".encode()


def test_formulas_are_written_as_they_are_unless_asked_otherwise() -> None:
    rows = [("=1+1", "+49 30 1234", "@SUM(A1)", "-5", -5, "plain")]
    assert written(rows) == b"=1+1,+49 30 1234,@SUM(A1),-5,-5,plain\r\n"
    escaped = written(rows, style=CsvStyle(escape_formulas=True))
    assert escaped == b"'=1+1,'+49 30 1234,'@SUM(A1),'-5,-5,plain\r\n"


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_a_delimiter_that_cannot_be_one_is_refused(delimiter: str) -> None:
    with pytest.raises(AttachmentError, match="delimiter"):
        CsvStyle(delimiter=delimiter)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(st.tuples(cells, cells), min_size=1))
def test_any_text_reads_back_as_it_was(rows: list[tuple[str, str]]) -> None:
    content = written(rows).decode()
    assert [tuple(row) for row in csv.reader(io.StringIO(content, newline=""))] == rows


HUGE = {
    "an integer of 5,000 digits": 10**5000,
    "a fraction beyond all floats": Fraction(10**400),
    "a decimal beyond all floats": Decimal("1E+400"),
    "a decimal below all floats": Decimal("1E-400"),
    "a signalling NaN": Decimal("sNaN"),
    "an infinite decimal": Decimal("-Infinity"),
    "an infinite float": float("inf"),
    "no number": float("nan"),
    "a complex number": 1j,
    "a lone surrogate": "a\ud800",
    "a long text": "x" * 40_000,
    "a moment at the end of time": datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))),
    "a long time": timedelta.max,
    "a list": [1],
}


@pytest.mark.parametrize("cell", HUGE.values(), ids=HUGE)
@pytest.mark.parametrize("make", [Attachment.csv, Attachment.excel], ids=["csv", "excel"])
def test_no_cell_raises_what_is_not_ours(make: Callable[..., Attachment], cell: Any) -> None:
    source = make("a", [["before", cell, "behind"]]).source
    assert isinstance(source, WriterSource)

    with suppress(AttachmentError):
        source.write(io.BytesIO())


def test_a_cell_that_cannot_say_what_it_is_is_refused() -> None:
    class Surly:
        def __str__(self) -> str:
            raise RuntimeError("no")

    for make in (Attachment.csv, Attachment.excel):
        source = make("a", [[Surly()]]).source
        assert isinstance(source, WriterSource)
        with pytest.raises(AttachmentError, match=r"as text \(RuntimeError: no\)"):
            source.write(io.BytesIO())
