"""What a worker keeps on the temporary disk, and what becomes of mail when that is full.

On a real small file system, which only root can make: elsewhere these tests are skipped.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Attachment, Message, Outbox, Receipt, WorkerConfig
from postroom.backoff import Backoff
from postroom.delivery import composer, outcomes
from postroom.testing.faulty_relay import FaultyRelay
from tests.services.waiting import wait_for

QUICK = WorkerConfig(poll_interval_s=0.05, lease_s=60, shutdown_grace_s=10)


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of its own; nothing else writes to it."""

    folder: Path
    size_bytes: int

    @property
    def used_bytes(self) -> int:
        """Return how much is taken, by files without a name as well."""
        found = os.statvfs(self.folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool) -> Iterator[Disk]:
    """The worker's TMPDIR: 8 MB of it, or with ``--full`` 120 MB."""
    disk = Disk(tmp_path / "small", (120 if full else 8) * 1024 * 1024)
    disk.folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={disk.size_bytes}", "none", str(disk.folder)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)


@pytest.fixture
def outbox(engine: Engine, relay: FaultyRelay) -> Iterator[Outbox]:
    outbox = Outbox(relay.url, engine=engine, sender="shop@example.com", worker=QUICK)
    yield outbox
    outbox.close()


def enqueue(outbox: Outbox, engine: Engine, disk: Disk, count: int) -> list[Receipt]:
    """Enqueue so many mails of which hardly six fit on the disk at a time; each its own file."""
    receipts = []
    for number in range(count):
        content = os.urandom(64) * (disk.size_bytes // 8 // 64)
        file = Attachment.from_bytes(f"{number}.bin", content)
        with Session(engine) as session, session.begin():
            message = Message(subject=f"Order {number}", text="x", attachments=[file])
            receipts.append(outbox.enqueue(session, message, to=[f"r{number}@example.com"]))
    return receipts


def states(outbox: Outbox, engine: Engine, receipts: list[Receipt]) -> list[str]:
    with Session(engine) as session:
        return [outbox.status(session, receipt).state.value for receipt in receipts]


def test_mail_that_finds_the_disk_full_is_put_off_and_none_of_it_is_rejected(
    outbox: Outbox,
    engine: Engine,
    relay: FaultyRelay,
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(outcomes, "_SHORTAGE", Backoff(first_s=0.05, longest_s=0.5))
    receipts = enqueue(outbox, engine, disk, 30)
    with caplog.at_level(logging.WARNING, "postroom"):
        outbox.worker().run(until_empty=True)
    assert states(outbox, engine, receipts) == ["accepted"] * 30
    assert len(relay.accepted) == 30
    assert any("No space left on device" in record.getMessage() for record in caplog.records)
    with Session(engine) as session:
        for receipt in receipts:
            # No relay heard of a mail that could not be made.
            [attempt] = outbox.attempts(session, receipt)
            assert attempt.outcome == "accepted"


def test_a_mail_that_waits_for_room_says_so_and_leaves_nothing_behind(
    outbox: Outbox, engine: Engine, disk: Disk
) -> None:
    [receipt] = enqueue(outbox, engine, disk, 1)
    filled = disk.folder / "of another program"
    filled.write_bytes(bytes(disk.size_bytes * 15 // 16))
    outbox.worker().drain()
    with Session(engine) as session:
        [recipient] = outbox.status(session, receipt).recipients
    assert (recipient.state, recipient.fault, recipient.attempt_count) == (
        "deferred",
        "ourselves",
        0,
    )
    assert recipient.reply is not None
    assert "No space left on device" in recipient.reply
    filled.unlink()
    assert disk.used_bytes == 0


def test_a_worker_without_work_holds_no_disk(
    outbox: Outbox, engine: Engine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composer, "KEPT_UNUSED_S", 0.3)
    with outbox.running():
        receipts = enqueue(outbox, engine, disk, 3)
        wait_for(lambda: states(outbox, engine, receipts) == ["accepted"] * 3, "all to be sent")
        wait_for(lambda: disk.used_bytes == 0, "the worker to let go of its files")


def test_what_is_kept_for_further_recipients_is_bounded_in_bytes(
    outbox: Outbox, engine: Engine, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composer, "MOST_KEPT_BYTES", disk.size_bytes // 2)
    monkeypatch.setattr(outcomes, "_SHORTAGE", Backoff(first_s=0.05, longest_s=0.5))
    with outbox.running():
        receipts = enqueue(outbox, engine, disk, 10)
        wait_for(lambda: states(outbox, engine, receipts) == ["accepted"] * 10, "all to be sent")
        wait_for(lambda: disk.used_bytes <= disk.size_bytes // 2, "the worker to keep no more")
        assert disk.used_bytes > 0
