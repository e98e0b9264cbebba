"""Relays that are none: mail is discarded, written into files, or shown on standard output.

Everything before them is real: claims, composition, the exact bytes, the record of each
recipient, whose reply says where the mail went.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from email import message_from_string
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Protocol, TextIO

from postroom.errors import ConnectError, RelayError
from postroom.message.envelope import Envelope
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay
from postroom.smtp.envelope_exchange import EnvelopeReplies
from postroom.smtp.reply import Outcome, Reply
from postroom.states import Phase
from postroom.text import safe_for_terminal

_HEADERS = ("From", "To", "Cc", "Reply-To", "Subject")
_WIDTH = 78


def text_preview(envelope: Envelope, content: bytes) -> str:
    """Return ``content`` in words; nothing in it can steer a terminal."""
    message = message_from_string(content.decode("utf-8", "replace"), policy=SMTPUTF8)
    assert isinstance(message, EmailMessage)
    return safe_for_terminal("\n".join([*_lines(envelope, message), "", ""]))


def _lines(envelope: Envelope, message: EmailMessage) -> Iterator[str]:
    whom = f"-- mail to {', '.join(envelope.recipients)} "
    yield whom.ljust(_WIDTH, "-")
    for name in _HEADERS:
        if name in message:
            yield f"{name}: {message[name]}"
    body = message.get_body(("plain", "html"))
    if body is not None:
        yield ""
        yield body.get_content().replace("\r\n", "\n").rstrip("\n")
    attached = [part for part in message.walk() if part.get_filename()]
    if attached:
        yield ""
        yield from map(_attachment, attached)


def _attachment(part: EmailMessage) -> str:
    content = part.get_payload(decode=True)
    size = f", {len(content):,} bytes" if isinstance(content, bytes) else ""
    return f"[{part.get_filename()}: {part.get_content_type()}{size}]"


_WELCOME = Reply(code=250, lines=("2.1.0 dry run",))
_GO_ON = Reply(code=354, lines=("go on",))
_UNSAFE = re.compile(r"[^A-Za-z0-9@._+-]+")
_LONGEST_NAME = 120


class MessageSink(Protocol):
    """Where the mails of a dry run end."""

    def write(self, envelope: Envelope, chunks: Iterable[bytes]) -> None:
        """Take the content of a mail."""
        ...

    def commit(self) -> str:
        """Let go of that mail for good; return where it went, in words."""
        ...

    def rollback(self) -> None:
        """Forget a mail that was not finished."""
        ...


def dry_run(relay: Relay) -> DryRunTransport:
    """Return what stands for a connection to ``relay``, whose scheme says what becomes of mail.

    Raises:
        ConnectError: the folder cannot be made.
    """
    match relay.scheme:
        case "file":
            return DryRunTransport(FileSink(Path(relay.path)))
        case "console":
            return DryRunTransport(ConsoleSink())
        case _:
            return DryRunTransport(NullSink())


class DryRunTransport:
    """Accepts everything, without a relay. Has the face of `postroom.smtp.session.Session`."""

    #: There is no connection that could end or grow old.
    accepts_more = is_usable = True
    #: Nobody said anything, or refused anything.
    transcript = ""
    pipelining = Pipelining.FULL
    refuses_early = False
    max_recipients = None

    def __init__(self, tray: MessageSink) -> None:
        self.transactions = 0
        self._tray = tray
        self._envelope: Envelope | None = None

    def local_refusal(self, envelope: Envelope) -> Outcome | None:
        """Return None: nothing is too large or too foreign."""
        return None

    def send_envelope(self, envelope: Envelope) -> None:
        """Begin a transaction."""
        self.transactions += 1
        self._envelope = envelope

    def read_envelope_replies(self) -> EnvelopeReplies:
        """Welcome every recipient."""
        count = len(self._current.recipients)
        return EnvelopeReplies(
            mail=_WELCOME,
            recipients=(_WELCOME,) * count,
            data=_GO_ON,
            accepted=count,
            is_ready_for_content=True,
        )

    def send_content(self, chunks: Iterable[bytes]) -> None:
        """Take the content.

        Raises:
            RelayError: it cannot be written.
        """
        try:
            self._tray.write(self._current, chunks)
        except OSError as error:
            raise RelayError(_unwritable(error), phase=Phase.BODY) from error

    def end_data(self, following: Envelope | None = None) -> tuple[Reply, ...]:
        """Accept the mail for everyone, and begin with ``following``.

        Raises:
            RelayError: it cannot be written.
        """
        try:
            where = self._tray.commit()
        except OSError as error:
            raise RelayError(_unwritable(error), phase=Phase.DOT) from error
        count = len(self._current.recipients)
        if following is not None:
            self.send_envelope(following)
        return (Reply(code=250, lines=(f"2.0.0 dry run: {where}",)),) * count

    def quit(self) -> None:
        """Forget what was not finished."""
        self._tray.rollback()

    def close(self) -> None:
        """Forget what was not finished."""
        self._tray.rollback()

    def abort(self) -> None:
        """Do nothing: nobody is waited for."""

    @property
    def _current(self) -> Envelope:
        assert self._envelope is not None, "nothing was started"
        return self._envelope


class NullSink:
    """``null://``: reads every mail to its end, and drops it."""

    def write(self, envelope: Envelope, chunks: Iterable[bytes]) -> None:
        """Read the content: what cannot be composed should fail here as well."""
        for _ in chunks:
            pass

    def commit(self) -> str:
        """Keep nothing."""
        return "discarded"

    def rollback(self) -> None:
        """Do nothing."""


class FileSink:
    """``file:///folder``: a file for each mail, whose names sort by time.

    It begins with Return-Path and Delivered-To, as a mailbox keeps the envelope (RFC 5321
    section 4.4); the rest is the exact bytes. A file is complete as soon as it has its name. It is
    for its owner alone, as is the folder where it is made now.
    """

    _counter = itertools.count(1)

    def __init__(
        self, folder: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Make the folder.

        Raises:
            ConnectError: it cannot be made.
        """
        self._folder = folder
        self._now = now
        self._unfinished: Path | None = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConnectError(_unwritable(error), phase=Phase.CONNECT) from error

    def write(self, envelope: Envelope, chunks: Iterable[bytes]) -> None:
        """Write the mail under a name that says it is unfinished."""
        moment = self._now().strftime("%Y%m%dT%H%M%S.%f")
        whom = _UNSAFE.sub("_", envelope.recipients[0])[:_LONGEST_NAME]
        name = f"{moment}-{os.getpid()}-{next(self._counter)}-{whom}.eml"
        self._unfinished = self._folder / f".{name}"
        trace = [f"Return-Path: <{envelope.sender}>"]
        trace += [f"Delivered-To: {recipient}" for recipient in envelope.recipients]
        with open(self._unfinished, "xb", opener=_privately) as file:
            file.write("".join(f"{line}\r\n" for line in trace).encode())
            file.writelines(chunks)

    def commit(self) -> str:
        """Give the file its name."""
        assert self._unfinished is not None
        path = self._unfinished.with_name(self._unfinished.name[1:])
        self._unfinished.rename(path)
        self._unfinished = None
        return f"written to {path.name}"

    def rollback(self) -> None:
        """Delete what is unfinished."""
        if self._unfinished is not None:
            self._unfinished.unlink(missing_ok=True)
            self._unfinished = None


class ConsoleSink:
    """``console://``: shows each mail on ``output``, standard output where None, as people read it.

    Attachments are named, not shown.
    """

    _lock = threading.Lock()

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output
        self._text = ""

    def write(self, envelope: Envelope, chunks: Iterable[bytes]) -> None:
        """Read the mail."""
        self._text = text_preview(envelope, b"".join(chunks))

    def commit(self) -> str:
        """Show it, in one piece."""
        output = self._output or sys.stdout
        encoding = output.encoding or "utf-8"
        with self._lock:
            output.write(self._text.encode(encoding, "replace").decode(encoding))
            output.flush()
        return "shown on the console"

    def rollback(self) -> None:
        """Do nothing: nothing was shown."""


def _privately(path: str, flags: int) -> int:
    """Open a file; it is made for its owner alone."""
    return os.open(path, flags, 0o600)


def _unwritable(error: OSError) -> str:
    return f"expected {error.filename} to be writable, got: {error.strerror}"
