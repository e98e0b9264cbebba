"""What a `FaultyRelay` accepted: in memory, and optionally in a file that survives a crash."""

from __future__ import annotations

import base64
import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """One transaction that was answered 2xx, or would have been if the connection had not dropped.

    Attributes:
        sender: The reverse-path.
        recipients: The accepted recipients.
        content: The mail, without dot-stuffing and terminator.
        mail_parameters: The text after the address in MAIL, such as ``SIZE=100``.
        rcpt_parameters: The text after the address in each RCPT, such as ``NOTIFY=FAILURE``.
        connection: The number of the connection that carried it, counted from 1.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    mail_parameters: str = ""
    rcpt_parameters: tuple[str, ...] = ()
    #: Which connection carried it, counted from 1.
    connection: int = 0


class AcceptedLog:
    """Collects what is accepted. Thread-safe.

    Args:
        path: A file that each entry is appended to before the mail is answered.
        syncs: Sync the file to disk after each entry. Without that, an entry survives a crash of
            the process, but not of the machine.
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
        """Add an entry; it is in the file when this returns."""
        if self._file is not None:
            os.write(self._file, _line(accepted))
            if self._syncs:
                os.fdatasync(self._file)
        with self._changed:
            self._accepted.append(accepted)
            self._changed.notify_all()

    def wait_for(self, count: int, timeout_s: float) -> list[Accepted]:
        """Wait until at least ``count`` mails were accepted; return them all.

        Args:
            count: How many.
            timeout_s: Seconds to wait.

        Raises:
            TimeoutError: they were not accepted in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._accepted) >= count, timeout_s):
                raise TimeoutError(
                    f"only {len(self._accepted)} of {count} mails were accepted "
                    f"within {timeout_s:g} s"
                )
            return list(self._accepted)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_journal(path: Path) -> list[Accepted]:
    """Return the entries in the file of a `FaultyRelay`; an unfinished last line is left out.

    Args:
        path: The file that was given as ``journal``.
    """
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
