"""Enqueues or delivers what is large, in a process of its own, and prints what memory it took.

``python -m tests.faults.large_mail URL RELAY attachment|variables|worker COUNT`` prints the
megabytes before and at the peak. COUNT is megabytes of the attachment, or recipients with 30 KB of
variables each.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from postroom import Attachment, Message, Outbox, Recipient, Template

MEGABYTE = 1024 * 1024


def peak_mb() -> int:
    # Not getrusage(): its figure begins with that of the process that started us.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def main(url: str, relay: str, what: str, count: str) -> None:
    engine = create_engine(url)
    outbox = Outbox(
        relay, engine=engine, sender="shop@example.com", max_message_bytes=400 * MEGABYTE
    )
    outbox.create_tables()
    before = peak_mb()
    if what == "worker":
        outbox.worker().drain()
    else:
        with Session(engine) as session, session.begin():
            _enqueue(outbox, session, what, int(count))
    print(before, peak_mb())
    outbox.close()
    engine.dispose()


def _enqueue(outbox: Outbox, session: Session, what: str, count: int) -> None:
    if what == "attachment":
        path = Path("large.bin")
        with path.open("wb") as file:
            for _ in range(count):
                file.write(bytes(range(256)) * 4096)
        message = Message(subject="Scan", text="See it.", attachments=[Attachment.from_path(path)])
        outbox.enqueue(session, message, to=["ada@example.com", "bob@example.com"])
    else:
        message = Message(subject="Hello", text=Template.from_string("{{ text|length }}"))
        people = (
            Recipient(f"r{number}@example.com", {"text": f"{number:06}" * 5000})
            for number in range(count)
        )
        outbox.enqueue(session, message, to=people)


if __name__ == "__main__":
    main(*sys.argv[1:])
