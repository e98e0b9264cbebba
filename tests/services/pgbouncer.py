"""A PgBouncer of our own, in transaction mode, before a PostgreSQL of our own."""

from __future__ import annotations

from pathlib import Path

import psycopg
from sqlalchemy import URL

from tests.services.daemon import Daemon
from tests.services.postgresql import PASSWORD, Postgresql
from tests.services.programs import require
from tests.services.waiting import free_port, listens

#: Sessions for each database: so few that whoever counts on one of their own soon meets another's.
SESSIONS = 2

_CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={postgresql_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
admin_users = postroom
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 100
"""


class PgBouncer:
    """Gives every transaction whichever of a database's few sessions is free."""

    def __init__(self, postgres: Postgresql) -> None:
        self._program = str(require("pgbouncer"))
        # It refuses to run as root.
        self._daemon = Daemon("pgbouncer", user="nobody")
        self.port = free_port()
        self._daemon.start(
            self._program, str(self._configure(postgres)), is_ready=lambda: listens(self.port)
        )

    def _configure(self, postgres: Postgresql) -> Path:
        users = self._daemon.folder / "users"
        # In clear, so that it can log in to PostgreSQL with it, too.
        users.write_text(f'"postroom" "{PASSWORD}"\n')
        self._daemon.give(users)
        configuration = self._daemon.folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                postgresql_port=postgres.port, port=self.port, users=users, sessions=SESSIONS
            )
        )
        self._daemon.give(configuration)
        return configuration

    def url(self, database: URL) -> URL:
        """Return the URL by which ``database`` is reached through us."""
        return database.set(port=self.port)

    def let_go(self) -> None:
        """Close the sessions that nobody uses at this moment."""
        # Its console takes what is sent as one text only, as this kind of cursor does.
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postroom",
            password=PASSWORD,
            dbname="pgbouncer",
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        ) as console:
            console.execute("RECONNECT")

    def remove(self) -> None:
        """Stop it and forget it."""
        self._daemon.remove()
