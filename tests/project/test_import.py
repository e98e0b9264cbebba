"""What an import of the package does, and what an outbox shows of itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import create_engine

from postroom import Outbox

#: Run in an interpreter of its own; prints what of ours is registered, and by which step.
_SCRIPT = """
import atexit, os
registered = []
atexit.register = lambda function, *rest: registered.append(function)
os.register_at_fork = lambda **functions: registered.extend(functions.values())

import postroom
from sqlalchemy import create_engine

def ours():
    return [one.__name__ for one in registered if one.__module__.startswith("postroom")]

print("import", *ours())
outbox = postroom.Outbox("null://", engine=create_engine("sqlite:///shop.db"))
outbox.create_tables()
print("tables", *ours())
outbox.start()
print("start", *ours())
outbox.stop()
outbox.start()
print("again", *ours())
outbox.stop()
"""


def test_an_outbox_says_where_it_writes_and_sends_without_secrets() -> None:
    engine = create_engine("postgresql+psycopg://shop:hush@db.example/shop?sslpassword=hush")
    outbox = Outbox("smtp://me:hush@smtp.example.com", engine=engine)

    assert repr(outbox) == (
        "Outbox(relay='smtp.example.com', "
        "database='postgresql+psycopg://shop:***@db.example/shop?sslpassword=***')"
    )
    several = Outbox({"main": "smtp://a.example", "bulk": "smtp://b.example"})
    assert repr(several) == "Outbox(relay='main, bulk', database=None)"
    assert repr(Outbox()) == "Outbox(relay=None, database=None)"


def test_hooks_of_the_process_are_registered_when_they_are_first_needed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], cwd=tmp_path, check=True, capture_output=True, text=True
    )

    assert done.stdout.splitlines() == [
        "import",
        "tables _reset_child",
        "start _reset_child _park_all _stop_all",
        "again _reset_child _park_all _stop_all",
    ]
