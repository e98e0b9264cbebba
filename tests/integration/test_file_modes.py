"""Files that hold mail are for their owner alone, whatever the umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from postroom import Attachment, Outbox
from postroom.storage.attachments import IN_MEMORY_BYTES, spool
from postroom.storage.engine import worker_engine
from tests.integration.terminal import Terminal


@pytest.fixture(autouse=True)
def lax_umask() -> Iterator[None]:
    """Let everybody read what is made without a thought."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder: Path, pattern: str) -> set[int]:
    return {mode(path) for path in folder.rglob(pattern)}


@pytest.mark.parametrize("command", [("init",), ("db", "create"), ("db", "upgrade"), ("stats",)])
@pytest.mark.parametrize("url", ["sqlite:///mail.db", "sqlite:///file:mail.db?uri=true"])
def test_a_database_that_a_command_makes_is_private(
    bare_terminal: Terminal, command: tuple[str, ...], url: str
) -> None:
    bare_terminal.set(database_url=url)
    bare_terminal.run(*command, code=3 if command == ("stats",) else 0)
    with worker_engine(url).connect() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER)"))
        connection.commit()
        assert modes(Path(), "mail.db*") == {0o600}
        assert {path.name for path in Path().glob("mail.db*")} >= {"mail.db", "mail.db-wal"}


def test_a_database_that_an_outbox_makes_is_private(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    outbox = Outbox("null://", engine=create_engine(f"sqlite:///{file}"))
    outbox.create_tables()
    assert mode(file) == 0o600
    outbox.close()


def test_a_database_that_stands_is_left_as_it_is_and_named_by_init(
    bare_terminal: Terminal,
) -> None:
    file = Path("postroom.db")
    file.touch()
    said = bare_terminal.run("init")
    assert mode(file) == 0o644
    assert "chmod 600 postroom.db" in said.err
    file.chmod(0o600)
    assert bare_terminal.run("init").err == ""
    assert bare_terminal.run("db", "check").err == ""


def test_mails_of_a_dry_run_are_private(terminal: Terminal, tmp_path: Path) -> None:
    terminal.set(relay=f"file://{tmp_path / 'mails'}")
    terminal.run("send", "--to", "ada@example.com", "--text", "hi", "--wait")
    assert mode(tmp_path / "mails") == 0o700
    assert modes(tmp_path / "mails", "*.eml") == {0o600}


def test_a_preview_in_a_file_is_private_and_a_file_that_stands_keeps_its_mode(
    terminal: Terminal,
) -> None:
    terminal.run("send", "--to", "ada@example.com", "--text", "hi")
    terminal.run("preview", "1", "--out", "new.eml")
    assert mode(Path("new.eml")) == 0o600
    Path("old.eml").write_text("longer than what follows " * 1000)
    terminal.run("preview", "1", "--out", "old.eml")
    assert mode(Path("old.eml")) == 0o644
    assert Path("old.eml").read_bytes() == Path("new.eml").read_bytes()


def open_files() -> dict[int, os.stat_result]:
    """Return the files that this process holds open, by their inode."""
    found: dict[int, os.stat_result] = {}
    for descriptor in range(256):
        with suppress(OSError):
            one = os.fstat(descriptor)
            if stat.S_ISREG(one.st_mode):
                found[one.st_ino] = one
    return found


def test_an_attachment_that_is_being_read_is_private_and_has_no_name() -> None:
    before = open_files()
    large = Attachment.from_bytes("large.bin", bytes(IN_MEMORY_BYTES + 1))
    with spool([large], 10 * IN_MEMORY_BYTES):
        (file,) = (one for inode, one in open_files().items() if inode not in before)
        assert (stat.S_IMODE(file.st_mode), file.st_nlink) == (0o600, 0)


def test_the_demo_leaves_nothing_for_others(
    bare_terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bare_terminal.run("demo")
    (folder,) = tmp_path.glob("postroom-demo-*")
    assert mode(folder) == 0o700
    assert modes(folder, "shop.db*") == {0o600}
