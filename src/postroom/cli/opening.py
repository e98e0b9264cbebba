"""What a command works on: the settings, the outbox they describe, and its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from postroom.outbox import Outbox
from postroom.settings import Settings
from postroom.storage.diagnosis import diagnosed
from postroom.storage.engine import read, write


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An outbox whose tables have been checked."""

    settings: Settings
    outbox: Outbox

    @property
    def engine(self) -> Engine:
        """The outbox's database."""
        return self.outbox.engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection to look at things."""
        with read(self.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection to change things; what was done is committed at the end."""
        with write(self.engine) as connection:
            yield connection


@contextmanager
def opened(*, check: bool = True, **changes: object) -> Iterator[Opened]:
    """Yield the outbox that the settings describe; ``changes`` take the place of some.

    Raises:
        ConfigError: a setting is wrong or the database cannot be used.
        SchemaError: the tables are not those of this version (where ``check``).
    """
    given = {name: value for name, value in changes.items() if value is not None}
    settings = Settings.load().model_copy(update=given)
    outbox = Outbox.from_settings(settings)
    try:
        with diagnosed(outbox.engine.url):
            if check:
                outbox.check()
            yield Opened(settings=settings, outbox=outbox)
    finally:
        outbox.close()
