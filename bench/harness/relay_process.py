"""A relay that notes when it answered for whom, and can take its time: small SMTP, no storage.

Stamps are ``time.monotonic``, one clock for all processes of a machine. Answers to every line
it is told on standard input: the stamps so far, by recipient.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable

_EHLO = b"250-relay.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
_END = b"\r\n.\r\n"

#: Every acceptance: whom it was for and when the reply went out.
stamps: list[tuple[str, float]] = []


class Smtp(asyncio.Protocol):
    """One connection."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._unread = b""
        self._recipients: list[str] = []
        self._is_in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 relay.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer all that is complete, in one write."""
        self._unread += data
        replies: list[bytes] = []
        while self._step(replies):
            pass
        if replies:
            self._transport.write(b"".join(replies))

    def _step(self, replies: list[bytes]) -> bool:
        end = _END if self._is_in_body else b"\r\n"
        part, found, rest = self._unread.partition(end)
        if not found:
            return False
        self._unread = rest
        if self._is_in_body:
            self._accept(replies)
        else:
            replies.append(self._answer(part))
        return True

    def _accept(self, replies: list[bytes]) -> None:
        self._is_in_body = False
        recipients, self._recipients = self._recipients, []
        if not self._delay_s:
            # Pipelined commands behind the dot are answered in the same write.
            replies.append(b"250 2.0.0 Accepted\r\n")
            stamps.extend((recipient, time.monotonic()) for recipient in recipients)
            return
        self._transport.pause_reading()
        before, replies[:] = b"".join(replies), []
        rest, self._unread = self._unread, b""
        loop = asyncio.get_running_loop()
        loop.call_later(self._delay_s, self._answer_late, before, recipients, rest)

    def _answer_late(self, before: bytes, recipients: list[str], rest: bytes) -> None:
        self._transport.write(before + b"250 2.0.0 Accepted\r\n")
        stamps.extend((recipient, time.monotonic()) for recipient in recipients)
        self._transport.resume_reading()
        self.data_received(rest)

    def _answer(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"RCPT":
            self._recipients.append(line.partition(b"<")[2].partition(b">")[0].decode())
        elif verb == b"DATA":
            self._is_in_body = True
            return b"354 End data with <CR><LF>.<CR><LF>\r\n"
        elif verb == b"EHLO":
            return _EHLO
        elif verb == b"QUIT":
            asyncio.get_running_loop().call_soon(self._transport.close)
            return b"221 2.0.0 Bye\r\n"
        return b"250 2.0.0 Ok\r\n"


async def serve(delay_s: float) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    make: Callable[[], asyncio.Protocol] = lambda: Smtp(delay_s)  # noqa: E731
    server = await loop.create_server(make, "127.0.0.1", 0, backlog=200)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"stamps": stamps}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])["delay_s"]))
