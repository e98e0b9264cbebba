"""Where settings come from: a TOML file and the environment; both are checked for names first."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from postroom.errors import ConfigError

PREFIX = "POSTROOM_"

#: Names the settings file; without it, ``postroom.toml`` in the current directory is read.
CONFIG_VARIABLE = PREFIX + "CONFIG"
DEFAULT_FILE = "postroom.toml"


def settings_path() -> Path | None:
    """Return the settings file in force, or None where there is none.

    Raises:
        ConfigError: ``POSTROOM_CONFIG`` names a file that does not exist.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    path = Path(named or DEFAULT_FILE)
    if path.is_file():
        return path
    if named:
        raise ConfigError(f"expected {CONFIG_VARIABLE} to name a settings file, got: {named}")
    return None


def read_settings_file(known: Iterable[str]) -> dict[str, Any]:
    """Return what the settings file says; nothing where there is none.

    Raises:
        ConfigError: it cannot be read, is not TOML, or holds a name that is none of ``known``.
    """
    path = settings_path()
    values = {} if path is None else _toml(path)
    for name in values.keys() - set(known):
        raise ConfigError(f"{path}: unknown setting {name!r}{_nearest(name, known)}")
    return values


def refuse_unknown_variables(known: Iterable[str], given: Iterable[str] | None = None) -> None:
    """Refuse a variable that looks like a setting and is none; the environment's where None.

    Raises:
        ConfigError: there is one; the text names it and the nearest one that exists.
    """
    variables = {PREFIX + name.upper() for name in known} | {CONFIG_VARIABLE}
    for name in sorted(os.environ if given is None else given):
        if name.upper().startswith(PREFIX) and name.upper() not in variables:
            raise ConfigError(f"unknown variable {name}{_nearest(name.upper(), variables)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not valid TOML: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # From None: the decoder's error carries the whole document, secrets included.
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def describe_validation_error(error: ValidationError, secret: Collection[str]) -> str:
    """Say which settings do not fit and why; the values of ``secret`` ones are left out."""
    first_of = {found["loc"][:1]: found for found in reversed(error.errors())}
    return "; ".join(_one(found, secret) for found in reversed(first_of.values()))


def _one(found: ErrorDetails, secret: Collection[str]) -> str:
    name = str(found["loc"][0])
    setting = f"the setting {name} ({PREFIX}{name.upper()})"
    if found["type"] == "value_error":  # raised by ourselves, and complete
        return f"{setting}: {found['msg'].removeprefix('Value error, ')}"
    wanted = found["msg"].replace("Input should be", "to be", 1)
    got = "" if name in secret else f", got: {found['input']!r}"
    return f"expected {setting} {wanted}{got}"
