"""A relay for the demo: stores each mail as a file, and refuses or defers some as real ones do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiosmtpd.smtp import SMTP

#: Rejected: this mailbox does not exist any more.
MOVED = "linus@moved.example"
#: Greylisted: the first attempt is deferred.
GREYLISTED = "greta@greylist.example"

_NO_SUCH_USER = "550 5.1.1 no such user here"
_COME_BACK = "451 4.7.1 greylisted, come back in a moment"


@dataclass(slots=True)
class Inbox:
    """Stores what arrives as ``.eml`` files.

    Attributes:
        folder: Where the files go.
    """

    folder: Path
    _deferred: set[str] = field(default_factory=set)
    _count: int = 0

    async def handle_rcpt(
        self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Answer RCPT TO."""
        if address == MOVED:
            return _NO_SUCH_USER
        if address == GREYLISTED and address not in self._deferred:
            self._deferred.add(address)
            return _COME_BACK
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 welcome"

    async def handle_data(self, server: SMTP, session: Any, envelope: Any) -> str:
        """Answer the final dot, after the mail is on disk."""
        self._count += 1
        name = f"{self._count:03d}-{envelope.rcpt_tos[0].replace('/', '_')}.eml"
        (self.folder / name).write_bytes(envelope.original_content)
        return f"250 2.0.0 kept as mail {self._count}"

    def connection(self) -> SMTP:
        """Return the protocol for a new connection."""
        answers = SimpleNamespace(handle_RCPT=self.handle_rcpt, handle_DATA=self.handle_data)
        return SMTP(answers, enable_SMTPUTF8=True, hostname="inbox.example")


@contextmanager
def listening(inbox: Inbox) -> Iterator[int]:
    """Serve ``inbox`` on a free port of the loopback interface; yield the port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="inbox", daemon=True)
    thread.start()
    serving = loop.create_server(inbox.connection, host="127.0.0.1", port=0)
    try:
        server = asyncio.run_coroutine_threadsafe(serving, loop).result()
        yield server.sockets[0].getsockname()[1]
        loop.call_soon_threadsafe(server.close)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
