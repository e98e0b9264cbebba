"""A mailing list as people keep it: a CSV file, a recipient a line, a variable a column."""

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

#: What the column with the address may be called, whatever its capitals.
ADDRESS_COLUMNS = ("email", "e-mail", "mail", "address", "to")

#: More wrong lines than this are counted, not shown.
_SHOWN = 20


def read_recipients(path: Path, *, with_variables: bool) -> list[Recipient]:
    """Return the recipients in ``path``; a progress bar is shown on a terminal.

    The first line names the columns: one of `ADDRESS_COLUMNS`, perhaps ``name``, and any more.
    Each becomes a variable of that name where ``with_variables``.

    Raises:
        CommandError: the file holds no such column or no recipient, or lines of it are wrong:
            all of them are named at once.
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
            raise _refusal(path, f"a CSV file in UTF-8, got: {error}") from None
    if not recipients:
        raise _refusal(path, "at least one recipient below its first line, got: none")
    return recipients


def _recipients(file: TextIO, path: Path, with_variables: bool) -> Iterator[Recipient]:
    header = file.readline()
    columns = next(csv.reader([header], delimiter=_delimiter(header)), [])
    rows = csv.reader(file, delimiter=_delimiter(header))
    address_at, name_at = _places(columns, path)
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
        raise CommandError(_listed(path, wrong), ExitCode.REFUSED)


def _delimiter(header: str) -> str:
    """Take what separates the names: spreadsheets write semicolons where commas are decimal."""
    return max(",;\t", key=header.count)


def _places(columns: Sequence[str], path: Path) -> tuple[int, int | None]:
    names = [name.strip().casefold() for name in columns]
    for name in ADDRESS_COLUMNS:
        if name in names:
            return names.index(name), names.index("name") if "name" in names else None
    found = ", ".join(columns) or "none"
    raise _refusal(path, f"a column named {' or '.join(ADDRESS_COLUMNS)}, got: {found}")


def _address(row: Sequence[str], address_at: int, name_at: int | None, columns: int) -> Address:
    if len(row) != columns:
        raise InvalidAddress(f"expected {columns} cells, got: {len(row)}")
    address = Address(row[address_at].strip())
    if name_at is None or not row[name_at].strip():
        return address
    return address.with_name(row[name_at].strip())


def _listed(path: Path, wrong: Sequence[str]) -> str:
    return f"{path}: {len(wrong)} wrong, nothing sent: {and_more(wrong, _SHOWN)}"


def _refusal(path: Path, wanted: str) -> CommandError:
    return CommandError(f"expected {path} to have {wanted}", ExitCode.REFUSED)
