"""Who delivers the shop's mail and books its uploads: two ways to try it on one machine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flask import Flask

from examples.shop.background import Clerk, add_wakeup
from examples.shop.mail import postroom

#: What Celery's worker has to know to work for the same shop.
_SHARED = (
    "SECRET_KEY",
    "SERVER_NAME",
    "SQLALCHEMY_DATABASE_URI",
    "POSTROOM_RELAY",
    "CELERY_BROKER_URL",
)
_CELERY = (sys.executable, "-m", "celery", "--quiet", "--app", "examples.shop.worker")

_FAREWELL_S = 20.0


@contextmanager
def threads(app: Flask, _folder: Path) -> Iterator[None]:
    """Let threads of this process do it: nothing is to be installed or started."""
    clerk = Clerk(app)
    add_wakeup(app, clerk.ring)
    clerk.ring()
    postroom.start(app)
    try:
        yield
    finally:
        clerk.stop()
        postroom.stop(app)


@contextmanager
def celery(app: Flask, folder: Path) -> Iterator[None]:
    """Let a Celery worker do it, with Redis as its broker; both end with the shop."""
    from examples.shop.tasks import celery_of  # noqa: PLC0415 - an extra; the shop runs without

    port = _free_port()
    app.config["CELERY_BROKER_URL"] = f"redis://127.0.0.1:{port}/0"
    celery_of(app)
    settings = {f"FLASK_{name}": json.dumps(app.config[name]) for name in _SHARED}
    place = ["--port", str(port), "--bind", "127.0.0.1"]
    redis = [_redis_server(), *place, "--save", "", "--loglevel", "warning"]
    worker = [*_CELERY, "worker", "--beat", "--loglevel", "warning", "--concurrency", "2"]
    with _running(redis), _running([*worker, "--schedule", str(folder / "beat")], settings):
        yield


@contextmanager
def _running(command: Sequence[str], settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """Keep a program running, out of reach of the terminal's Ctrl-C: it is ended in order."""
    with subprocess.Popen(  # noqa: S603 - commands of our own
        command,
        env={**os.environ, **(settings or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        try:
            yield
        finally:
            child.terminate()
            try:
                child.wait(_FAREWELL_S)
            except subprocess.TimeoutExpired:
                child.kill()


def _redis_server() -> str:
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("expected redis-server to be installed, got: no such program")
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
