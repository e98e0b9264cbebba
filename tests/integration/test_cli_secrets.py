"""No command, log, error or traceback shows a secret of the database's URL, wherever it stands."""

from __future__ import annotations

import traceback

import pytest
from sqlalchemy import URL

from postroom import Outbox
from postroom.cli.app import run
from postroom.config.settings import Settings
from postroom.storage.engine import worker_engine
from postroom.testing import FaultyRelay
from tests.integration.terminal import SECRET, Terminal

#: Every command that looks at the database, and says something of it.
COMMANDS = (
    ("init",),
    ("db", "create"),
    ("db", "upgrade"),
    ("db", "check"),
    ("send", "--to", "ada@example.com", "--text", "hi"),
    ("worker", "--drain"),
    ("worker", "--drain", "--log-format", "json", "--log-level", "debug"),
    ("stats",),
    ("stats", "--json"),
    ("search",),
    ("status", "1"),
    ("explain", "1"),
    ("preview", "1"),
    ("retry", "1"),
    ("cancel", "1"),
    ("resolve", "1", "--sent"),
    ("suppress", "ada@example.com"),
    ("unsuppress", "ada@example.com"),
    ("prune", "--older-than", "30d"),
)

_NOWHERE = "127.0.0.1:1"
URLS = (
    f"postgresql://shop@{_NOWHERE}/shop?password={SECRET}",
    f"postgresql+asyncpg://shop@{_NOWHERE}/shop?password={SECRET}&connect_timeout=2",
    f"postgresql://shop:x@{_NOWHERE}/shop?sslpassword={SECRET}",
    f"postgresql://{_NOWHERE}/shop?passfile=/{SECRET}",
    f"postgresql://shop:x@{SECRET}@{_NOWHERE}/shop",
    f"postgresql://shop:{SECRET}/shop",
    f"postgresql://{_NOWHERE}/shop;password={SECRET}",
    f"sqlite:///no/such/folder/shop.db?key={SECRET}",
)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.filterwarnings("ignore:Query string argument:sqlalchemy.exc.SAWarning")
def test_a_dead_database_is_named_without_its_secret(bare_terminal: Terminal, url: str) -> None:
    bare_terminal.set(database_url=url)
    for command in COMMANDS:
        said = bare_terminal.run(*command, code=3)
        assert "Traceback" not in said.err


@pytest.mark.parametrize("url", URLS[:3])
def test_a_traceback_shows_no_secret(bare_terminal: Terminal, url: str) -> None:
    bare_terminal.set(database_url=url)
    with pytest.raises(ValueError, match="database") as caught:
        run(["--traceback", "stats"])
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_living_database_is_named_without_its_secret(
    bare_terminal: Terminal,
    postgresql_url: URL,
    relay: FaultyRelay,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = str(postgresql_url.password)
    url = postgresql_url.set(password=None).update_query_dict(
        {"password": secret, "sslpassword": SECRET}
    )
    bare_terminal.set(
        database_url=url.render_as_string(hide_password=False),
        relay=relay.url,
        sender="shop@example.com",
    )
    for command in COMMANDS:
        assert run(command) in {0, 5}
        shown = capsys.readouterr()
        assert SECRET not in shown.out + shown.err
        assert secret not in shown.out + shown.err
    assert "password=***" in bare_terminal.run("db", "check").out


def test_what_holds_an_engine_does_not_show_its_secret(bare_terminal: Terminal) -> None:
    bare_terminal.set(database_url=URLS[0], relay="null://")
    worker = Outbox.from_env().worker()
    assert SECRET not in repr(vars(worker)) + repr(worker) + repr(Settings.load())


def test_a_port_that_is_no_number_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="database URL") as refused:
        worker_engine(f"postgresql://shop:{SECRET}/shop")
    assert SECRET not in "".join(traceback.format_exception(refused.value))
