"""A mailing list is a CSV file as people and spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.cli.csv_recipients import read_recipients
from postroom.cli.errors import CommandError
from postroom.message.address import Address
from postroom.message.message import Recipient


def read(path: Path, text: str, *, with_variables: bool = True) -> list[Recipient]:
    path.write_text(text, encoding="utf-8")
    return read_recipients(path, with_variables=with_variables)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "customers.csv"


def test_each_line_is_a_recipient_and_each_column_a_variable(path: Path) -> None:
    found = read(path, "email,city\nada@a.example,London\ngrace@b.example,Arlington\n")
    assert [str(one.address) for one in found] == ["ada@a.example", "grace@b.example"]
    assert found[0].variables == {"email": "ada@a.example", "city": "London"}


def test_a_column_of_names_names_the_recipients(path: Path) -> None:
    (found,) = read(path, "Name,E-Mail\nAda Lovelace,ada@a.example\n")
    assert found.address == Address("Ada Lovelace <ada@a.example>")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_are_separated_as_spreadsheets_do(path: Path, separator: str) -> None:
    text = f'\ufeffemail{separator}note\r\nada@a.example{separator}"one, two; three"\r\n\r\n'
    (found,) = read(path, text)
    assert found.variables == {"email": "ada@a.example", "note": "one, two; three"}


def test_without_variables_only_the_addresses_are_kept(path: Path) -> None:
    (found,) = read(path, "email,city\nada@a.example,London\n", with_variables=False)
    assert found.variables is None


def test_every_wrong_line_is_named_at_once(path: Path) -> None:
    lines = [f"user{n}@a.example" for n in range(10_000)]
    for n, wrong in ((17, "nobody"), (4711, "a@b@c"), (9999, "x@-.example")):
        lines[n - 2] = wrong
    with pytest.raises(CommandError) as caught:
        read(path, "email\n" + "\n".join(lines))
    text = str(caught.value)
    assert "3 wrong, nothing sent" in text
    assert all(f"line {n}: " in text for n in (17, 4711, 9999))


def test_many_wrong_lines_are_counted(path: Path) -> None:
    with pytest.raises(CommandError, match=r"line 21: .*; and 80 more$"):
        read(path, "email\n" + "nobody\n" * 100)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a column named"),
        ("who,city\nada@a.example,London\n", "got: who, city"),
        ("email\n", "at least one recipient"),
        ("email,city\nada@a.example\n", "line 2: expected 2 cells, got: 1"),
    ],
)
def test_a_file_that_is_no_mailing_list_is_refused(path: Path, text: str, complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        read(path, text)


def test_a_file_that_is_not_utf_8_is_refused(path: Path) -> None:
    path.write_bytes("email,name\nada@a.example,Łukasz\n".encode("utf-16"))
    with pytest.raises(CommandError, match="a CSV file in UTF-8"):
        read_recipients(path, with_variables=False)
