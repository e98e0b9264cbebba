"""Which of the things done in transactions still stand: told by the connections' own events."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, event

#: The events of savepoints tell no name when one is made; their statements do.
_SAVEPOINT = re.compile(
    r"(SAVEPOINT|ROLLBACK TO SAVEPOINT|RELEASE SAVEPOINT)\s+(\S+)", re.IGNORECASE
)


@dataclass(slots=True)
class Deed:
    """Something done on a connection; ``undo`` is called if that is rolled back."""

    undo: Callable[[], None]
    stands: bool = True
    is_committed: bool = False


@dataclass(slots=True)
class _Open:
    """The transaction of one connection."""

    deeds: list[Deed] = field(default_factory=list)
    #: Savepoints by name, each with how many deeds came before it.
    savepoints: dict[str, int] = field(default_factory=dict)


class Transactions:
    """Follows the transactions of every engine while it is watching."""

    def __init__(self) -> None:
        self._open: dict[Connection, _Open] = {}
        self._listeners: tuple[tuple[str, Any], ...] = (
            ("commit", self._committed),
            ("rollback", self._rolled_back),
            ("before_cursor_execute", self._executed),
        )

    def watch(self) -> None:
        """Begin to follow them."""
        for name, listener in self._listeners:
            event.listen(Engine, name, listener)

    def rest(self) -> None:
        """Follow them no more."""
        for name, listener in self._listeners:
            event.remove(Engine, name, listener)
        self._open.clear()

    def done(self, connection: Connection, undo: Callable[[], None]) -> Deed:
        """Note that something was done in the transaction at hand."""
        deed = Deed(undo)
        self._of(connection).deeds.append(deed)
        return deed

    def _of(self, connection: Connection) -> _Open:
        return self._open.setdefault(connection, _Open())

    def _committed(self, connection: Connection) -> None:
        for deed in self._ended(connection).deeds:
            deed.is_committed = True

    def _rolled_back(self, connection: Connection) -> None:
        _undo(self._ended(connection).deeds)

    def _ended(self, connection: Connection) -> _Open:
        return self._open.pop(connection, _Open())

    def _executed(self, connection: Connection, _: Any, statement: str, *__: Any) -> None:
        found = _SAVEPOINT.match(statement)
        if found is None:
            return
        verb, name = found[1].upper(), found[2]
        transaction = self._of(connection)
        if verb == "SAVEPOINT":
            transaction.savepoints[name] = len(transaction.deeds)
            return
        # One that was made before we watched came before everything.
        before = transaction.savepoints.pop(name, 0)
        if verb.startswith("ROLLBACK"):
            undone, transaction.deeds = transaction.deeds[before:], transaction.deeds[:before]
            _undo(undone)


def _undo(deeds: list[Deed]) -> None:
    for deed in deeds:
        deed.stands = False
        deed.undo()
