"""What a ``FaultyRelay`` accepted: in memory, and in a file that outlives a crash."""

from __future__ import annotations

import base64
import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One transaction that was answered 2xx, or would have been had the connection not dropped.

    ``content`` is without dot-stuffing and terminator. ``recipients`` are those that stood.
    Parameters are the text after the address, such as ``SIZE=100`` or ``NOTIFY=FAILURE``.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    mail_parameters: str = ""
    rcpt_parameters: tuple[str, ...] = ()
    #: Which connection carried it, counted from 1.
    connection: int = 0


class AcceptedLog:
    """Takes what is accepted. Thread-safe.

    With a ``path`` each entry is appended to that file before it is answered, and synced to disk
    unless ``syncs`` is false: it then outlives a process, but not a machine.
    """

    def __init__(self, path: Path | None = None, *, syncs: bool = True) -> None:
        self._syncs = syncs
        self._changed = threading.Condition()
        self._accepted: list[Accepted] = []
        self._file: int | None = None
        if path is not None:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    @property
    def accepted(self) -> list[Accepted]:
        """Return everything accepted so far."""
        with self._changed:
            return list(self._accepted)

    def add(self, accepted: Accepted) -> None:
        """Keep one more; it is in the file when this returns."""
        if self._file is not None:
            os.write(self._file, _line(accepted))
            if self._syncs:
                os.fdatasync(self._file)
        with self._changed:
            self._accepted.append(accepted)
            self._changed.notify_all()

    def wait_for(self, count: int, timeout_s: float) -> list[Accepted]:
        """Wait until at least ``count`` were accepted; return them.

        Raises:
            TimeoutError: they were not in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._accepted) >= count, timeout_s):
                raise TimeoutError(
                    f"expected {count} mails to be accepted within {timeout_s} s, "
                    f"got: {len(self._accepted)}"
                )
            return list(self._accepted)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_journal(path: Path) -> list[Accepted]:
    """Return what a journal's file holds; an unfinished last line is left out."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_accepted(line) for line in lines]


def _line(accepted: Accepted) -> bytes:
    fields = asdict(accepted) | {"content": base64.b64encode(accepted.content).decode("ascii")}
    return json.dumps(fields).encode() + b"\n"


def _accepted(line: bytes) -> Accepted:
    fields = json.loads(line)
    return Accepted(
        sender=fields["sender"],
        recipients=tuple(fields["recipients"]),
        content=base64.b64decode(fields["content"]),
        mail_parameters=fields["mail_parameters"],
        rcpt_parameters=tuple(fields["rcpt_parameters"]),
        connection=fields["connection"],
    )
