"""``db``: the tables, as they are made, brought up to date, and checked."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from sqlalchemy import Engine

from postroom.cli.output import complain, say
from postroom.settings import Settings
from postroom.storage import migrations, schema
from postroom.storage.database_url import shown_url, sqlite_file
from postroom.storage.diagnosis import diagnosed
from postroom.storage.engine import worker_engine

_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH

app = typer.Typer(help="Make, upgrade and check the tables.", no_args_is_help=True)


@app.command()
def create() -> None:
    """Create the tables where there are none; check them where there are."""
    with _database() as (engine, name), diagnosed(engine.url):
        schema.create(engine, name)
        tell("ready", engine)


@app.command()
def upgrade() -> None:
    """Bring the tables of an earlier version up to this one, or create them.

    Tables that your own migrations made are left to them.
    """
    with _database() as (engine, name):
        migrations.upgrade(engine, name)
        tell(f"at revision {schema.REVISION}", engine)


@app.command()
def check() -> None:
    """Compare every table, column and index with what this version expects."""
    with _database() as (engine, name):
        migrations.check(engine, name)
        tell(f"as revision {schema.REVISION} makes them", engine)


@contextmanager
def _database() -> Iterator[tuple[Engine, str | None]]:
    """Yield the database and the schema; a migration may take longer than any deadline."""
    settings = Settings.load()
    engine = worker_engine(settings.required_database_url(), deadline_s=None)
    try:
        yield engine, settings.database_schema
    finally:
        engine.dispose()


def tell(how: str, engine: Engine) -> None:
    """Say that the tables are ``how``, and who else may read them where that is a file."""
    say(f"tables {how} in {shown_url(engine.url)}")
    file = sqlite_file(engine.url)
    if file is not None and os.name == "posix" and file.stat().st_mode & _OTHERS_READ:
        complain(
            f"{file} can be read by other users of this machine, and it holds mail:\n"
            f"chmod 600 {shlex.quote(str(file))}"
        )
