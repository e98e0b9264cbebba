"""Booking parcels: a file of order and tracking numbers in, what became of each line out."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select

from examples.shop.models import CustomerOrder, db

#: The columns that a file must have.
_ASKED_FOR = ("order_number", "tracking_number")

#: Of a table of results.
COLUMNS = (*_ASKED_FOR, "result")


class UnreadableFile(ValueError):
    """It is no file of tracking numbers; nothing of it was booked."""


class Result(StrEnum):
    """What became of a line."""

    SHIPPED = "shipped"
    UNKNOWN_ORDER = "unknown order"
    NO_TRACKING_NUMBER = "no tracking number"
    SHIPPED_BEFORE = "shipped before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A line of the file, and what became of it."""

    order_number: str
    tracking_number: str
    result: Result


def book(content: bytes) -> list[Parcel]:
    """Book every line of a CSV file, in the transaction of the session.

    Raises:
        UnreadableFile: the text says why.
    """
    return [_booked(*line) for line in _lines(content)]


def _lines(content: bytes) -> list[tuple[str, str]]:
    try:
        # What Excel calls "CSV UTF-8" begins with a byte order mark.
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        if missing := set(_ASKED_FOR) - set(reader.fieldnames or ()):
            raise UnreadableFile(f"expected a column {' and '.join(sorted(missing))}, got: none")
        lines = [tuple((row[name] or "").strip() for name in _ASKED_FOR) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFile(f"expected a CSV file in UTF-8, got: {error}") from error
    return [(order_number, tracking_number) for order_number, tracking_number in lines]


def _booked(order_number: str, tracking_number: str) -> Parcel:
    wanted = select(CustomerOrder).where(CustomerOrder.order_number == order_number)
    order = db.session.scalar(wanted)
    result = _result(order, tracking_number)
    if order is not None and result is Result.SHIPPED:
        order.tracking_number = tracking_number
    return Parcel(order_number=order_number, tracking_number=tracking_number, result=result)


def _result(order: CustomerOrder | None, tracking_number: str) -> Result:
    if order is None:
        return Result.UNKNOWN_ORDER
    if not tracking_number:
        return Result.NO_TRACKING_NUMBER
    return Result.SHIPPED_BEFORE if order.tracking_number else Result.SHIPPED
