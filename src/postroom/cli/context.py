"""What a command works on: the settings, the outbox they describe, and its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from postroom.config.settings import Settings
from postroom.outbox import Outbox
from postroom.storage.database_errors import explaining_setup_errors
from postroom.storage.engine import read_transaction, write_transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContext:
    """An open outbox, and the settings it was made from.

    Attributes:
        settings: The settings.
        outbox: The outbox.
    """

    settings: Settings
    outbox: Outbox

    @property
    def engine(self) -> Engine:
        """The outbox's database."""
        return self.outbox.engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection for reading."""
        with read_transaction(self.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection for writing; commit at the end."""
        with write_transaction(self.engine) as connection:
            yield connection


@contextmanager
def open_outbox(*, check: bool = True, **changes: object) -> Iterator[CommandContext]:
    """Yield the outbox that the settings describe; close it at the end.

    Args:
        check: Check that the tables are those of this version.
        changes: Settings that replace the loaded ones; None changes nothing.

    Raises:
        ConfigError: a setting is wrong, or the database cannot be used.
        SchemaError: the tables are not those of this version.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    assert given.keys() <= Settings.model_fields.keys()
    settings = Settings.load().model_copy(update=given)
    outbox = Outbox.from_settings(settings)
    try:
        with explaining_setup_errors(outbox.engine.url):
            if check:
                outbox.check_schema()
            yield CommandContext(settings=settings, outbox=outbox)
    finally:
        outbox.close()
