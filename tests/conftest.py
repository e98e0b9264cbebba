"""What every test may ask for: databases, engines, servers, and the long form.

``database_url`` runs a test on SQLite and on PostgreSQL, on an empty database of its own each;
``engine``, ``worker_engine`` and ``session`` add the tables.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import URL, Engine, create_engine, inspect
from sqlalchemy.orm import Session

from postroom.storage import engine as engines
from postroom.storage import schema
from postroom.storage import tables as models
from tests.services.postfix import Postfix, SmtpSink
from tests.services.postgresql import Postgresql
from tests.services.programs import MISSING, PACKAGES
from tests.services.redis import Redis
from tests.services.reusable import ReusableDatabase

# No deadline: on a machine with other work to do, time says nothing about an example.
settings.register_profile("short", deadline=None, print_blob=True)
settings.register_profile("full", settings.get_profile("short"), max_examples=10_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the long form of tests that have one")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--full") else "short")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the tests that were skipped for want of a program, and say what to run."""
    reasons = [
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and MISSING in report.longrepr[2]
    ]
    if reasons:
        packages = sorted({p for p in PACKAGES.values() if any(f"({p})" in r for r in reasons)})
        terminalreporter.section("skipped for want of a program")
        terminalreporter.line(f"{len(reasons)} skipped. Run: apt-get install {' '.join(packages)}")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to run the long form."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgresql]:
    """A PostgreSQL server for the whole run (with xdist, for this worker's)."""
    server = Postgresql()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis server for the whole run; flush it before use."""
    server = Redis()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postfix() -> Iterator[Postfix]:
    """A Postfix that stores what it accepts; tests tell their mails apart by subject."""
    server = Postfix()
    yield server
    server.remove()


@pytest.fixture
def smtp_sink() -> Iterator[SmtpSink]:
    """A relay that accepts everything and keeps nothing."""
    sink = SmtpSink()
    yield sink
    sink.remove()


def _create_tables(url: URL) -> None:
    engine = create_engine(url)
    engines.configure_sqlite(engine)
    schema.create(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def blank_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file that holds our tables and nothing else, to be copied."""
    path = tmp_path_factory.mktemp("blank") / "outbox.sqlite"
    _create_tables(URL.create("sqlite", database=str(path)))
    return path


@pytest.fixture(scope="session")
def reusable_database(postgres: Postgresql) -> Iterator[ReusableDatabase]:
    """A PostgreSQL database with our tables, emptied between the tests that it is lent to."""
    database = ReusableDatabase(postgres, _create_tables, kept=(schema.VERSION_TABLE,))
    yield database
    database.drop()


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A SQLite database of this test's own: empty, or with our tables for ``engine``."""
    path = tmp_path / "outbox.sqlite"
    if "engine" in request.fixturenames:
        shutil.copyfile(request.getfixturevalue("blank_sqlite"), path)
    return URL.create("sqlite", database=str(path))


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest, postgres: Postgresql) -> Iterator[URL]:
    """A PostgreSQL database of this test's own: empty, or with our tables for ``engine``."""
    if "engine" in request.fixturenames:
        database: ReusableDatabase = request.getfixturevalue("reusable_database")
        yield database.lend()
        database.take_back()
    else:
        url = postgres.create_database()
        yield url
        postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> URL:
    """A database of this test's own, which runs once on SQLite and once on PostgreSQL."""
    url: URL = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def engine(database_url: URL) -> Iterator[Engine]:
    """An application's engine on a database that holds our tables."""
    application = create_engine(database_url)
    engines.configure_sqlite(application)
    if not inspect(application).has_table(schema.VERSION_TABLE):
        schema.create(application)
    yield application
    application.dispose()


@pytest.fixture
def worker_engine(engine: Engine) -> Iterator[Engine]:
    """A worker's engine on the same database as ``engine``."""
    worker = engines.worker_engine(engine.url)
    yield worker
    worker.dispose()


@pytest.fixture
def tables() -> models.Tables:
    """Our tables, in the default schema."""
    return models.tables()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session of the application's; nothing is committed but by the test."""
    with Session(engine) as session:
        yield session
