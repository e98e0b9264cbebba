"""How PostgreSQL goes about a statement: what it reads as a whole, and how many pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One statement as it was run.

    At most ``pages`` of 8 KiB were asked for, from memory or from disk: a WITH that writes counts
    twice where the rest reads it, since its pages are missing from the rest where nothing does.
    """

    statement: str
    pages: int
    scanned: tuple[str, ...]


def plans(engine: Engine, call: Callable[[Connection], object]) -> list[Plan]:
    """Run ``call``, undo it, and explain each of its statements as it is run again, and undone."""
    with engine.connect() as connection:
        said = _statements(connection, call)
        try:
            return [_plan(connection, statement, values) for statement, values in said]
        finally:
            connection.rollback()


def _statements(
    connection: Connection, call: Callable[[Connection], object]
) -> list[tuple[str, Any]]:
    said: list[tuple[str, Any]] = []

    def hear(*call: Any) -> None:
        said.append((call[2], call[3]))

    event.listen(connection, "before_cursor_execute", hear)
    call(connection)
    event.remove(connection, "before_cursor_execute", hear)
    connection.rollback()
    return said


def _plan(connection: Connection, statement: str, values: Any) -> Plan:
    explained = connection.exec_driver_sql(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement, values
    ).scalar_one()
    root = explained[0]["Plan"]
    scanned = (node["Relation Name"] for node in _nodes(root) if node["Node Type"] == "Seq Scan")
    writing = [node for node in _nodes(root) if node["Node Type"] == "ModifyTable"]
    pages = sum(_pages(node) for node in writing if node is not root)
    return Plan(statement=statement, pages=_pages(root) + pages, scanned=tuple(scanned))


def _pages(node: dict[str, Any]) -> int:
    pages: int = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
    return pages


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)
