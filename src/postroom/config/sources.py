"""Reads settings from a TOML file and the environment.

An unknown name is refused, with the nearest known one, and no error shows a secret.
"""

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

#: Names the settings file; the default is ``postroom.toml`` in the current directory.
CONFIG_VARIABLE = PREFIX + "CONFIG"
DEFAULT_FILE = "postroom.toml"


def settings_path() -> Path | None:
    """Return the path of the settings file; None if there is none.

    Raises:
        ConfigError: ``POSTROOM_CONFIG`` names a file that does not exist.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    path = Path(named or DEFAULT_FILE)
    if path.is_file():
        return path
    if named:
        raise ConfigError(
            f"{CONFIG_VARIABLE} names the settings file {named}, which does not exist"
        )
    return None


def read_settings_file(known: Iterable[str]) -> dict[str, Any]:
    """Return the settings in the settings file; nothing if there is no file.

    Args:
        known: The names of all settings.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or contains an unknown name.
    """
    path = settings_path()
    values = {} if path is None else _read_toml(path)
    for name in values.keys() - set(known):
        raise ConfigError(f"{path}: unknown setting {name!r}{_did_you_mean(name, known)}")
    return values


def refuse_unknown_variables(known: Iterable[str], given: Iterable[str] | None = None) -> None:
    """Refuse a variable that begins with ``POSTROOM_`` and is not a setting.

    Args:
        known: The names of all settings.
        given: The names of the variables; None: those of the environment.

    Raises:
        ConfigError: There is one. The text names it and the nearest setting.
    """
    variables = {PREFIX + name.upper() for name in known} | {CONFIG_VARIABLE}
    for name in sorted(os.environ if given is None else given):
        if name.upper().startswith(PREFIX) and name.upper() not in variables:
            raise ConfigError(f"unknown variable {name}{_did_you_mean(name.upper(), variables)}")


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not valid TOML: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # From None: the decoder's error contains the whole document, with its secrets.
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def describe_validation_error(error: ValidationError, secret: Collection[str]) -> str:
    """Return which settings are wrong and why.

    Args:
        error: What pydantic raised.
        secret: The names of the settings whose values must not be shown.
    """
    first_of = {found["loc"][:1]: found for found in reversed(error.errors())}
    return "; ".join(_describe(found, secret) for found in reversed(first_of.values()))


def _describe(found: ErrorDetails, secret: Collection[str]) -> str:
    name = str(found["loc"][0])
    setting = f"the setting {name} ({PREFIX}{name.upper()})"
    if found["type"] == "value_error":  # raised by our own code
        return f"{setting}: {found['msg'].removeprefix('Value error, ')}"
    problem = found["msg"].replace("Input should be", "must be", 1)
    value = "" if name in secret else f", not {found['input']!r}"
    return f"{setting} {problem}{value}"
