"""``init``: a settings file with every setting explained, and the tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from postroom.cli.db import tell
from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.opening import opened
from postroom.cli.output import say
from postroom.settings import Settings
from postroom.settings_file import CONFIG_VARIABLE, DEFAULT_FILE

_WIDTH = 90

_DATABASE_URL = "sqlite:///postroom.db"


def init(
    database_url: Annotated[
        str, typer.Option(metavar="URL", help="The database, as an SQLAlchemy URL.")
    ] = _DATABASE_URL,
    relay: Annotated[str, typer.Option(metavar="URL", help="The relay.")] = "",
    sender: Annotated[str, typer.Option(metavar="ADDRESS", help="The default sender.")] = "",
    tables: Annotated[bool, typer.Option(help="Create the tables as well.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace a settings file.")] = False,
) -> None:
    """Write a postroom.toml with every setting explained, and create the tables.

    The file is readable by its owner only. Run again, it keeps the file and creates what misses.
    """
    path = Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_FILE)
    chosen = {"database_url": database_url, "relay": relay, "sender": sender}
    if path.exists() and not force:
        _refuse_to_ignore(path, chosen)
        say(f"{path} stands already and is kept")
    else:
        _write(path, settings_text({name: value for name, value in chosen.items() if value}))
        say(f"{path} written: read it, and set what is yours")
    if tables:
        with opened(check=False) as desk:
            desk.outbox.create_tables()
            tell("ready", desk.engine)


def settings_text(chosen: Mapping[str, str]) -> str:
    """Return a settings file: ``chosen`` is set, every other setting stands in a comment."""
    fields = sorted(Settings.model_fields.items(), key=lambda item: _is_table(item[1]))
    blocks = ["# Settings of Postroom. The variable POSTROOM_<NAME> beats what stands here.\n"]
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
    """In TOML whatever follows a table belongs to it: tables come last."""
    return isinstance(field.default, Mapping)


def _toml(value: Any) -> str:
    """Write a text, number, boolean or list; for these TOML reads what JSON writes."""
    return json.dumps(value, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _refuse_to_ignore(path: Path, chosen: Mapping[str, str]) -> None:
    if chosen != {"database_url": _DATABASE_URL, "relay": "", "sender": ""}:
        raise CommandError(
            f"{path} stands already: set them there, or replace it with --force",
            ExitCode.TOO_LATE,
        )
