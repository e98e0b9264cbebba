"""A Redis server of our own; nothing is written to disk."""

from __future__ import annotations

import redis

from tests.services.daemon import Daemon
from tests.services.programs import require
from tests.services.waiting import free_port, listens


class Redis:
    """A server that can be restarted and hurt; ``url`` stays the same."""

    def __init__(self) -> None:
        self._program = str(require("redis-server"))
        self._daemon = Daemon("redis")
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        """Return the URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, and return when it listens."""
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._daemon.folder))
        self._daemon.start(
            self._program,
            *place,
            "--save",
            "",
            "--appendonly",
            "no",
            is_ready=lambda: listens(self.port),
        )

    def stop(self) -> None:
        """Stop the server; what it held is gone."""
        self._daemon.stop()

    def restart(self) -> None:
        """Stop and start the server, on the same port, empty."""
        self.stop()
        self.start()

    def flush(self) -> None:
        """Forget everything."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def remove(self) -> None:
        """Stop the server and forget it."""
        self._daemon.remove()
