"""A TCP proxy that delays every byte, in both directions: a relay far away.

Threads, not an event loop: a loop's timers are rounded up to milliseconds, a sleeping thread
wakes within a tenth of one.
"""

from __future__ import annotations

import json
import queue
import socket
import sys
import threading
import time

_CHUNK_BYTES = 256 * 1024


def main() -> None:
    """Listen, say the port, and forward for ever."""
    order = json.loads(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", order["port"]))
        for source, target in ((near, far), (far, near)):
            target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            forward(source, target, order["delay_s"])


def forward(source: socket.socket, target: socket.socket, delay_s: float) -> None:
    """Start the two threads of one direction."""
    under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    threading.Thread(target=read, args=(source, under_way, delay_s), daemon=True).start()
    threading.Thread(target=write, args=(target, under_way), daemon=True).start()


def read(
    source: socket.socket, under_way: queue.SimpleQueue[tuple[float, bytes]], delay_s: float
) -> None:
    """Note when each chunk is to arrive; an empty one is the end."""
    chunk = b"more"
    while chunk:
        try:
            chunk = source.recv(_CHUNK_BYTES)
        except OSError:
            chunk = b""
        under_way.put((time.monotonic() + delay_s, chunk))


def write(target: socket.socket, under_way: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    """Pass chunks on when their time has come."""
    while True:
        due_at, chunk = under_way.get()
        time.sleep(max(0.0, due_at - time.monotonic()))
        try:
            if not chunk:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(chunk)
        except OSError:
            return


if __name__ == "__main__":
    main()
