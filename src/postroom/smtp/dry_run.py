"""Dry runs: mail is discarded, written into files, or shown on standard output.

Everything before that is real: claims, composition, the exact bytes, and the record of each
recipient, whose reply tells where the mail went.
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
from postroom.smtp.reply import OK, START_MAIL_INPUT, Outcome, Reply
from postroom.states import Phase
from postroom.text import safe_for_terminal

_ACCEPTED = Reply(code=OK, lines=("2.1.0 dry run",))
_START_CONTENT = Reply(code=START_MAIL_INPUT, lines=("go on",))

#: What is replaced in the name of a file, and how much of an address it contains.
_UNSAFE = re.compile(r"[^A-Za-z0-9@._+-]+")
_MAX_NAME = 120

#: What the text form of a mail shows.
_HEADERS = ("From", "To", "Cc", "Reply-To", "Subject")
_WIDTH = 78


class MessageSink(Protocol):
    """Where the mail of a dry run goes."""

    def write(self, envelope: Envelope, chunks: Iterable[bytes]) -> None:
        """Take the content of a mail.

        Args:
            envelope: Its sender and recipients.
            chunks: Its bytes, without the final dot.

        Raises:
            OSError: It cannot be written.
        """
        ...

    def commit(self) -> str:
        """Keep the mail that was written; return where it is, as a text for people.

        Raises:
            OSError: It cannot be kept.
        """
        ...

    def rollback(self) -> None:
        """Delete a mail that was written and not committed."""
        ...


def open_dry_run(relay: Relay) -> DryRunTransport:
    """Return the transport for a relay with the scheme ``null``, ``file`` or ``console``.

    Args:
        relay: The relay; its ``path`` is the folder of ``file``.

    Raises:
        ConnectError: The folder cannot be made.
    """
    match relay.scheme:
        case "file":
            return DryRunTransport(FileSink(Path(relay.path)))
        case "console":
            return DryRunTransport(ConsoleSink())
        case _:
            return DryRunTransport(NullSink())


class DryRunTransport:
    """Accepts every mail and gives it to a sink; see `postroom.smtp.transport.Transport`.

    Args:
        sink: Where the mail goes.

    Attributes:
        transactions: How many transactions have been started.
        accepts_more: True: there is no connection that could end.
        is_usable: True.
        transcript: Empty: nothing was said.
        pipelining: ``FULL``.
        refuses_early: False.
        max_recipients: None: there is no limit.
    """

    accepts_more = is_usable = True
    transcript = ""
    pipelining = Pipelining.FULL
    refuses_early = False
    max_recipients = None

    def __init__(self, sink: MessageSink) -> None:
        self.transactions = 0
        self._sink = sink
        self._envelope: Envelope | None = None

    def local_refusal(self, envelope: Envelope) -> Outcome | None:
        """Return None: every mail is accepted."""
        return None

    def send_envelope(self, envelope: Envelope) -> None:
        """Start a transaction."""
        self.transactions += 1
        self._envelope = envelope

    def read_envelope_replies(self) -> EnvelopeReplies:
        """Accept every recipient."""
        count = len(self._current.recipients)
        return EnvelopeReplies(
            mail=_ACCEPTED,
            recipients=(_ACCEPTED,) * count,
            data=_START_CONTENT,
            accepted=count,
            is_ready_for_content=True,
        )

    def send_content(self, chunks: Iterable[bytes]) -> None:
        """Give the content to the sink.

        Raises:
            RelayError: The mail cannot be written.
        """
        try:
            self._sink.write(self._current, chunks)
        except OSError as error:
            raise RelayError(_unwritable(error), phase=Phase.BODY) from error

    def end_data(self, next_envelope: Envelope | None = None) -> tuple[Reply, ...]:
        """Accept the mail for every recipient, and start the next transaction.

        Raises:
            RelayError: The mail cannot be kept.
        """
        try:
            place = self._sink.commit()
        except OSError as error:
            raise RelayError(_unwritable(error), phase=Phase.DOT) from error
        count = len(self._current.recipients)
        if next_envelope is not None:
            self.send_envelope(next_envelope)
        return (Reply(code=OK, lines=(f"2.0.0 dry run: {place}",)),) * count

    def quit(self) -> None:
        """Delete an unfinished mail."""
        self._sink.rollback()

    def close(self) -> None:
        """Delete an unfinished mail."""
        self._sink.rollback()

    def abort(self) -> None:
        """Do nothing: no call waits."""

    @property
    def _current(self) -> Envelope:
        assert self._envelope is not None, "no transaction was started"
        return self._envelope


class NullSink:
    """``null://``: reads every mail to its end and discards it."""

    def write(self, envelope: Envelope, chunks: Iterable[bytes]) -> None:
        """Read the content: a mail that cannot be composed fails here too."""
        for _ in chunks:
            pass

    def commit(self) -> str:
        """Return that the mail was discarded."""
        return "discarded"

    def rollback(self) -> None:
        """Do nothing."""


class FileSink:
    """``file:///folder``: writes every mail into a file; the names sort by time.

    A file begins with Return-Path and Delivered-To, as in a mailbox (RFC 5321 section 4.4). The
    rest is the exact bytes of the mail. A file is complete if its name does not begin with a dot.
    Files, and a new folder, can be read by their owner only.

    Args:
        folder: The folder; it is made if it does not exist.
        now: The wall clock, for the names.
    """

    _counter = itertools.count(1)

    def __init__(
        self, folder: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Make the folder.

        Raises:
            ConnectError: The folder cannot be made.
        """
        self._folder = folder
        self._now = now
        self._unfinished: Path | None = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConnectError(_unwritable(error), phase=Phase.CONNECT) from error

    def write(self, envelope: Envelope, chunks: Iterable[bytes]) -> None:
        """Write the mail into a file whose name begins with a dot."""
        written_at = self._now().strftime("%Y%m%dT%H%M%S.%f")
        recipient = _UNSAFE.sub("_", envelope.recipients[0])[:_MAX_NAME]
        name = f"{written_at}-{os.getpid()}-{next(self._counter)}-{recipient}.eml"
        self._unfinished = self._folder / f".{name}"
        headers = [f"Return-Path: <{envelope.sender}>"]
        headers += [f"Delivered-To: {address}" for address in envelope.recipients]
        with open(self._unfinished, "xb", opener=_open_private) as file:
            file.write("".join(f"{line}\r\n" for line in headers).encode())
            file.writelines(chunks)

    def commit(self) -> str:
        """Rename the file to its final name."""
        assert self._unfinished is not None
        path = self._unfinished.with_name(self._unfinished.name[1:])
        self._unfinished.rename(path)
        self._unfinished = None
        return f"written to {path.name}"

    def rollback(self) -> None:
        """Delete the unfinished file."""
        if self._unfinished is not None:
            self._unfinished.unlink(missing_ok=True)
            self._unfinished = None


class ConsoleSink:
    """``console://``: prints every mail as text; attachments are only named.

    Args:
        output: Where to print; None: standard output.
    """

    _lock = threading.Lock()

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output
        self._text = ""

    def write(self, envelope: Envelope, chunks: Iterable[bytes]) -> None:
        """Read the mail and keep its text."""
        self._text = text_preview(envelope, b"".join(chunks))

    def commit(self) -> str:
        """Print the text in one piece."""
        output = self._output or sys.stdout
        encoding = output.encoding or "utf-8"
        with self._lock:
            output.write(self._text.encode(encoding, "replace").decode(encoding))
            output.flush()
        return "shown on the console"

    def rollback(self) -> None:
        """Do nothing: nothing was printed."""


def _unwritable(error: OSError) -> str:
    return f"{error.filename} cannot be written: {error.strerror}"


def _open_private(path: str, flags: int) -> int:
    """Open a file that only its owner can read."""
    return os.open(path, flags, 0o600)


def text_preview(envelope: Envelope, content: bytes) -> str:
    """Return a mail as text for a terminal, without control characters.

    Args:
        envelope: Its sender and recipients.
        content: Its bytes.
    """
    message = message_from_string(content.decode("utf-8", "replace"), policy=SMTPUTF8)
    assert isinstance(message, EmailMessage)
    return safe_for_terminal("\n".join([*_preview_lines(envelope, message), "", ""]))


def _preview_lines(envelope: Envelope, message: EmailMessage) -> Iterator[str]:
    title = f"-- mail to {', '.join(envelope.recipients)} "
    yield title.ljust(_WIDTH, "-")
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
        yield from map(_attachment_line, attached)


def _attachment_line(part: EmailMessage) -> str:
    content = part.get_payload(decode=True)
    size = f", {len(content):,} bytes" if isinstance(content, bytes) else ""
    return f"[{part.get_filename()}: {part.get_content_type()}{size}]"
