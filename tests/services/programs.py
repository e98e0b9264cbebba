"""Finding the programs, and saying so where one is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

#: Which Debian package brings which program.
PACKAGES = {
    "Email::MIME": "libemail-mime-perl",
    "chromium": "chromium",
    "dovecot": "dovecot-lmtpd",
    "epmd": "rabbitmq-server",
    "exim4": "exim4-daemon-light",
    "initdb": "postgresql",
    "node": "npm",
    "perl": "libemail-mime-perl",
    "pgbouncer": "pgbouncer",
    "postfix": "postfix",
    "postgres": "postgresql",
    "rabbitmq-server": "rabbitmq-server",
    "redis-server": "redis-server",
    "smtp-sink": "postfix",
    "smtp-source": "postfix",
}

#: Every skip for a missing program begins like this, so that the summary can count them.
MISSING = "missing program: "

#: Debian keeps PostgreSQL's programs off the PATH, and an ordinary user's PATH lacks sbin.
_ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/sbin")


def find(program: str) -> Path | None:
    """Return where ``program`` is, or None; of several PostgreSQLs the newest."""
    versions = Path("/usr/lib/postgresql")
    newest = sorted(versions.glob("*/bin"), key=lambda path: -int(path.parent.name))
    folders = [*map(str, newest), os.environ.get("PATH", ""), *_ELSEWHERE]
    found = shutil.which(program, path=os.pathsep.join(folders))
    return Path(found) if found else None


def require(program: str) -> Path:
    """Return where ``program`` is; skip the test where it is missing, or fail on CI."""
    found = find(program)
    if found is None:
        refuse(program)
    return found


def refuse(program: str) -> NoReturn:
    """Skip the test for want of ``program``, or fail on CI."""
    text = f"{MISSING}{program} ({PACKAGES[program]})"
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)
