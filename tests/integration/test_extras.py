"""Each integration as a new user begins with it: a clean environment with its extra alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.pages import write_files
from tests.project.sources import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

#: The page's application, asked for one thing; `console://` shows the mail.
FLASK = """
from shop import User, create_app, db, mail
app = create_app()
with app.app_context():
    db.create_all()
    db.session.add(User(email="ada@example.com"))
    db.session.commit()
app.test_client().post("/orders/A-1")
with app.app_context():
    mail.outbox.deliver(db.session, 1)
"""

FASTAPI = """
import asyncio
from shop import Base, User, app, engine, outbox, postroom, sessions
from postroom import Message
async def main():
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with app.router.lifespan_context(app), sessions() as session:
        session.add(User(id=1, email="ada@example.com"))
        mail = postroom.bind(session)
        receipt = await mail.enqueue(Message(subject="Order A-1 confirmed", text="-"), user_ids=[1])
        await session.commit()
        while (await mail.status(receipt)).state != "accepted":
            await session.rollback()
    await engine.dispose()
asyncio.run(main())
"""


def run(*command: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **settings}
    environment.pop("PYTHONPATH", None)
    if CERTIFICATES.exists():
        environment.setdefault("SSL_CERT_FILE", str(CERTIFICATES))
    done = subprocess.run(
        [str(word) for word in command],
        cwd=settings.get("PWD", str(ROOT)),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    return next(folder.glob("*.whl"))


@pytest.fixture
def environment(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Path]]:
    """Makes an interpreter with an extra, and with what the guide adds to it."""
    uv = shutil.which("uv", path=f"{ROOT / '.bootstrap' / 'bin'}") or shutil.which("uv")
    assert uv is not None, "run scripts/bootstrap"
    venv = tmp_path_factory.mktemp("venv")

    def make(extra: str, *further: str) -> Path:
        run(uv, "venv", "--python", sys.executable, "--no-python-downloads", venv)
        python = venv / "bin" / "python"
        named = f"postroom[{extra}] @ {wheel.as_uri()}"
        # The lock's versions, which the bootstrap has downloaded already.
        locked = ("--constraints", "requirements.lock")
        run(uv, "pip", "install", "--python", python, *locked, named, *further)
        return python

    yield make
    shutil.rmtree(venv)


def test_flask_with_its_extra_alone(environment: Callable[..., Path], tmp_path: Path) -> None:
    python = environment("flask")
    write_files("flask.md", tmp_path)
    where = {"PWD": str(tmp_path), "DATABASE_URL": f"sqlite:///{tmp_path}/shop.db"}
    assert "Subject: Order A-1 confirmed" in run(python, "-c", FLASK, **where).stdout
    listed = run(python, "-m", "flask", "--app", "shop", "postroom", "search", **where).stdout
    assert "accepted" in listed


def test_fastapi_with_its_extra_alone(environment: Callable[..., Path], tmp_path: Path) -> None:
    python = environment("fastapi", "aiosqlite")
    write_files("fastapi.md", tmp_path)
    url = f"sqlite+aiosqlite:///{tmp_path}/shop.db"
    shown = run(python, "-c", FASTAPI, PWD=str(tmp_path), DATABASE_URL=url, RELAY="console://")
    assert "Subject: Order A-1 confirmed" in shown.stdout


def test_the_pytest_plugin_in_an_applications_environment(
    environment: Callable[..., Path], tmp_path: Path
) -> None:
    python = environment("flask", "pytest")
    write_files("flask.md", tmp_path)
    write_files("testing.md", tmp_path)
    shown = run(python, "-m", "pytest", "-q", "-W", "error", tmp_path, PWD=str(tmp_path)).stdout
    assert "4 passed" in shown


@pytest.mark.parametrize("extra", ["flask", "fastapi"])
def test_without_its_extra_an_integration_names_it(extra: str) -> None:
    code = f"import sys; sys.modules['{extra}'] = None; import postroom.integrations.{extra}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'postroom[{extra}]'" in done.stderr
