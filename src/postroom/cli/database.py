"""Commands for the database: ``init``, ``prune``, and ``db create``, ``upgrade`` and ``check``."""

from __future__ import annotations

import json
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from sqlalchemy import Engine

from postroom.cli.context import open_outbox
from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.options import AsJson, parse_duration
from postroom.cli.output import echo, print_error, print_json
from postroom.config.settings import Settings
from postroom.config.sources import CONFIG_VARIABLE, DEFAULT_FILE
from postroom.storage import migrations, schema
from postroom.storage.database_errors import explaining_setup_errors
from postroom.storage.database_url import shown_url, sqlite_file
from postroom.storage.engine import worker_engine

_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH

_WIDTH = 90

_DATABASE_URL = "sqlite:///postroom.db"

app = typer.Typer(help="Create, upgrade and check the tables.", no_args_is_help=True)


@app.command()
def create() -> None:
    """Create the tables; if they exist already, check them."""
    with _database() as (engine, name), explaining_setup_errors(engine.url):
        schema.create(engine, name)
        report_tables("ready", engine)


@app.command()
def upgrade() -> None:
    """Upgrade the tables of an earlier version to this one, or create them.

    Tables that your own migrations created are left to them.
    """
    with _database() as (engine, name):
        migrations.upgrade(engine, name)
        report_tables(f"at revision {schema.REVISION}", engine)


@app.command()
def check() -> None:
    """Compare every table, column and index with what this version expects."""
    with _database() as (engine, name):
        migrations.check(engine, name)
        report_tables(f"as revision {schema.REVISION} makes them", engine)


@contextmanager
def _database() -> Iterator[tuple[Engine, str | None]]:
    """Yield the database and its schema, without a deadline: a migration may take long."""
    settings = Settings.load()
    engine = worker_engine(settings.required_database_url(), deadline_s=None)
    try:
        yield engine, settings.database_schema
    finally:
        engine.dispose()


def report_tables(how: str, engine: Engine) -> None:
    """Print the state of the tables, and a warning if other users can read the file.

    Args:
        how: The state, such as "ready".
        engine: The database.
    """
    echo(f"tables {how} in {shown_url(engine.url)}")
    file = sqlite_file(engine.url)
    if file is not None and os.name == "posix" and file.stat().st_mode & _OTHERS_READ:
        print_error(
            f"{file} can be read by other users of this machine, and it holds mail:\n"
            f"chmod 600 {shlex.quote(str(file))}"
        )


def init(
    database_url: Annotated[
        str, typer.Option(metavar="URL", help="The database, as an SQLAlchemy URL.")
    ] = _DATABASE_URL,
    relay: Annotated[str, typer.Option(metavar="URL", help="The relay.")] = "",
    sender: Annotated[str, typer.Option(metavar="ADDRESS", help="The default sender.")] = "",
    tables: Annotated[bool, typer.Option(help="Create the tables as well.")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing settings file.")
    ] = False,
) -> None:
    """Write a postroom.toml with every setting explained, and create the tables.

    Only its owner can read the file. A second run keeps the file and creates what is missing.
    """
    path = Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)
    chosen = {"database_url": database_url, "relay": relay, "sender": sender}
    if path.exists() and not force:
        _refuse_to_ignore(path, chosen)
        echo(f"{path} exists already and is kept")
    else:
        _write(path, settings_text({name: value for name, value in chosen.items() if value}))
        echo(f"{path} written: read it, and change what you need")
    if tables:
        with open_outbox(check=False) as context:
            context.outbox.create_tables()
            report_tables("ready", context.engine)


def settings_text(chosen: Mapping[str, str]) -> str:
    """Return a settings file that sets ``chosen``; every other setting is in a comment."""
    fields = sorted(Settings.model_fields.items(), key=lambda item: _is_table(item[1]))
    blocks = ["# Settings of Postroom. A variable POSTROOM_<NAME> overrides what is set here.\n"]
    blocks += ["".join(_block(name, field, chosen.get(name))) for name, field in fields]
    return "\n".join(blocks)


def _block(name: str, field: FieldInfo, chosen: str | None) -> Iterator[str]:
    yield from (f"# {line}\n" for line in wrap(str(field.description), _WIDTH))
    if chosen is not None:
        yield f"{name} = {_toml(chosen)}\n"
        return
    value = field.examples[0] if field.examples else field.default
    if isinstance(value, Mapping):
        yield f"# [{name}]\n"
        yield from (f"# {_toml(key)} = {_toml(item)}\n" for key, item in value.items())
    else:
        yield f"# {name} = {_toml(value)}\n"


def _is_table(field: FieldInfo) -> bool:
    """Whether a setting is a TOML table: those come last, as they have no end."""
    return isinstance(field.default, Mapping)


def _toml(value: Any) -> str:
    """Return a text, number, boolean or list in TOML, which reads these as JSON writes them."""
    return json.dumps(value, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _refuse_to_ignore(path: Path, chosen: Mapping[str, str]) -> None:
    if chosen != {"database_url": _DATABASE_URL, "relay": "", "sender": ""}:
        raise CommandError(
            f"{path} exists already: change the settings there, or replace it with --force",
            ExitCode.TOO_LATE,
        )


def prune(
    older_than: Annotated[
        timedelta,
        typer.Option(
            parser=parse_duration,
            metavar="AGE",
            help="Delete what ended before that: 30d, 12h, 4w.",
        ),
    ],
    batch: Annotated[int, typer.Option(min=1, help="Recipients in each transaction.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Delete messages whose recipients are all final, and attachments that are not used any more.

    Works in small transactions: it can be stopped at any time and never blocks delivery.
    """
    with open_outbox() as context:
        pruned = context.outbox.prune(older_than, batch=batch)
    if as_json:
        print_json(pruned)
    else:
        echo(f"{pruned.messages:,} messages and {pruned.blobs:,} attachments deleted")
