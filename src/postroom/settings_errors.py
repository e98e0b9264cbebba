"""What to say of settings that do not fit: the setting by both its names, and never a secret."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from postroom.settings_file import PREFIX


def explained(error: ValidationError, secret: Collection[str]) -> str:
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
