"""The page on enqueueing: its examples run, one after the other, and print what it shows."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, select

from postroom import errors
from postroom.storage import message_store
from postroom.storage.tables import Tables
from tests.integration.shop import rows
from tests.project.sources import ROOT

PAGE = (ROOT / "docs" / "enqueue.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


async def run(code: str, names: dict[str, Any]) -> None:
    """Run an example in ``names``; it may await."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compiled = compile(code, "docs/enqueue.md", "exec", flags, dont_inherit=True)
    result = eval(compiled, names)  # our own page
    if inspect.isawaitable(result):
        await result


def examples(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Run every example; return what each was to print, and did."""
    names: dict[str, Any] = {"__name__": "shop"}
    found = []
    blocks = FENCE.findall(PAGE)
    for (language, code), (following, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language == "python":
            asyncio.run(run(code, names))
            found.append((shown if following == "text" else "", capsys.readouterr().out))
    names["engine"].dispose()
    names["outbox"].close()
    return found


def rendered_texts(connection: Connection, tables: Tables) -> set[str]:
    """Return the texts that recipients with variables get."""
    found = set()
    for message_id, variables in rows(connection, "message_id variables", tables.recipient):
        if variables is not None:
            (stored,) = message_store.load_messages(
                connection, tables, [message_id], lambda _: iter(())
            ).values()
            text = stored.draft.rendered(variables).text
            assert isinstance(text, str)
            found.add(text)
    return found


def test_the_examples_print_what_the_page_shows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tables: Tables,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "invoice.pdf").write_bytes(b"%PDF-1.7")
    for shown, printed in examples(capsys):
        assert printed == shown
    engine = create_engine("sqlite:///shop.db")
    with engine.connect() as connection:
        subjects = Counter(connection.scalars(select(tables.message.c.subject)))
        attached = [name for (name,) in rows(connection, "filename", tables.attachment)]
        rendered = rendered_texts(connection, tables)
    engine.dispose()
    assert subjects["Kept"] == 1
    assert "Gone" not in subjects
    assert {"It is A-17.", "You have 120.", "With us since 2020."} <= rendered
    assert attached == ["invoice.pdf", "notes.txt", "lines.csv", "lines.xlsx"]


def test_the_errors_that_the_page_names_exist() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert len(named) == 9
    for name in named:
        assert issubclass(getattr(errors, name), errors.PostroomError)
