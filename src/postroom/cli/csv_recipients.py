"""A mailing list in a CSV file: one recipient in each line, one variable in each column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.progress import open as open_with_progress

from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.output import console
from postroom.errors import InvalidAddress
from postroom.message.address import Address
from postroom.message.message import Recipient
from postroom.text import and_more

#: Names for the column with the address; upper and lower case are the same.
ADDRESS_COLUMNS = ("email", "e-mail", "mail", "address", "to")

#: The most wrong lines that are shown; more are only counted.
_SHOWN = 20


def read_recipients(path: Path, *, with_variables: bool) -> list[Recipient]:
    """Return the recipients in ``path``; show a progress bar on a terminal.

    The first line names the columns: one of `ADDRESS_COLUMNS`, optionally ``name``, and any others.

    Args:
        path: The file, in UTF-8; commas, semicolons or tabs separate its cells.
        with_variables: Give each recipient every column as a variable of that name.

    Raises:
        CommandError: the file has no such column or no recipients, or lines of it are wrong; the
            text names all of them.
    """
    screen = console(stderr=True)
    with open_with_progress(
        path,
        "r",
        encoding="utf-8-sig",
        newline="",
        description=path.name,
        console=screen,
        disable=not screen.is_terminal,
    ) as file:
        try:
            recipients = list(_recipients(file, path, with_variables))
        except (UnicodeDecodeError, csv.Error) as error:
            raise _refused(path, f"is not a CSV file in UTF-8: {error}") from None
    if not recipients:
        raise _refused(path, "has no recipients below its first line")
    return recipients


def _recipients(file: TextIO, path: Path, with_variables: bool) -> Iterator[Recipient]:
    header = file.readline()
    columns = next(csv.reader([header], delimiter=_delimiter(header)), [])
    rows = csv.reader(file, delimiter=_delimiter(header))
    address_at, name_at = _column_indexes(columns, path)
    wrong: list[str] = []
    for row in rows:
        if not any(row):
            continue
        try:
            address = _address(row, address_at, name_at, len(columns))
        except InvalidAddress as error:
            wrong.append(f"line {rows.line_num + 1}: {error}")
            continue
        variables = dict(zip(columns, row, strict=True)) if with_variables else None
        yield Recipient(address, variables)
    if wrong:
        raise CommandError(_summary(path, wrong), ExitCode.REFUSED)


def _delimiter(header: str) -> str:
    """Return the separator: spreadsheets write semicolons where decimals have a comma."""
    return max(",;\t", key=header.count)


def _column_indexes(columns: Sequence[str], path: Path) -> tuple[int, int | None]:
    names = [name.strip().casefold() for name in columns]
    for name in ADDRESS_COLUMNS:
        if name in names:
            return names.index(name), names.index("name") if "name" in names else None
    names_found = ", ".join(columns) or "none"
    raise _refused(
        path, f"has no column named {' or '.join(ADDRESS_COLUMNS)}; its columns: {names_found}"
    )


def _address(row: Sequence[str], address_at: int, name_at: int | None, columns: int) -> Address:
    if len(row) != columns:
        raise InvalidAddress(f"the line must have {columns} cells, not {len(row)}")
    address = Address(row[address_at].strip())
    if name_at is None or not row[name_at].strip():
        return address
    return address.with_name(row[name_at].strip())


def _summary(path: Path, wrong: Sequence[str]) -> str:
    return f"{path}: {len(wrong)} wrong, nothing sent: {and_more(wrong, _SHOWN)}"


def _refused(path: Path, problem: str) -> CommandError:
    return CommandError(f"{path} {problem}", ExitCode.REFUSED)
