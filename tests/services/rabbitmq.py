"""A RabbitMQ server of our own."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from amqp.exceptions import NotFound
from kombu import Connection

from tests.services.daemon import Daemon
from tests.services.programs import refuse, require
from tests.services.waiting import free_port, listens

#: Debian's ``rabbitmq-server`` on the PATH insists on a user of its own; what it calls does not.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
#: Erlang's threads wait for work by trying again and again; tests have better use for the cores.
_ERLANG = (
    "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} "
    "+sbwt none +sbwtdcpu none +sbwtdio none"
)


class RabbitMQ:
    """A broker that can be restarted; ``url`` stays the same, durable queues too."""

    def __init__(self) -> None:
        if not _SERVER.is_file():
            refuse("rabbitmq-server")
        self._names = Daemon("epmd")
        self._daemon = Daemon("rabbitmq")
        self._names_port = free_port()
        self.port = free_port()
        # Erlang would start this one by itself, and leave it behind.
        self._names.start(
            str(require("epmd")),
            *("-port", str(self._names_port), "-address", "127.0.0.1"),
            is_ready=lambda: listens(self._names_port),
        )
        self.start()

    @property
    def url(self) -> str:
        """Return the URL of the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start the server, and return when it takes connections."""
        folder = self._daemon.folder
        environment = {
            "HOME": folder,
            "PATH": "/usr/lib/rabbitmq/bin:/usr/bin:/bin",
            "ERL_EPMD_PORT": self._names_port,
            "RABBITMQ_NODENAME": f"postroom-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": free_port(),
            "RABBITMQ_MNESIA_BASE": folder / "mnesia",
            "RABBITMQ_LOG_BASE": folder / "logs",
            "RABBITMQ_PID_FILE": folder / "pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }
        self._daemon.start(
            str(shutil.which("env")),
            *(f"{name}={value}" for name, value in environment.items()),
            str(_SERVER),
            is_ready=lambda: listens(self.port),
        )

    def stop(self) -> None:
        """Stop the server."""
        self._daemon.stop()

    def flush(self) -> None:
        """Forget the messages that wait in Celery's queue."""
        with Connection(self.url) as connection, suppress(NotFound):
            connection.default_channel.queue_purge("celery")

    def restart(self) -> None:
        """Stop and start the server, on the same port."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Stop the server and forget what it held."""
        self._daemon.remove()
        self._names.remove()
