"""Run the shop on this machine, with everything it needs: ``python -m examples.shop``."""

from __future__ import annotations

import argparse
import logging
import secrets
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from flask import Flask
from werkzeug.serving import make_server

from examples.shop import engines, inbox, people
from examples.shop.app import create_app
from examples.shop.mail import postroom
from examples.shop.models import db
from postroom.testing import FaultyRelay

_ENGINES = {"threads": engines.threads, "celery": engines.celery}

_WELCOME = """\
The shop is open: {url}
Sign in there as one of these people, and find the mail with the link in {url}/inbox/
  {ada}     a customer
  {grace}     may upload parcels, for example {parcels}
Ctrl-C closes it."""


def main() -> None:
    """Keep the shop open until Ctrl-C; what it wrote is gone afterwards."""
    arguments = _arguments()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postroom-shop-")))
        relay = stack.enter_context(FaultyRelay())
        app = _local_app(folder, relay, delivers=arguments.engine == "threads")
        server = make_server("127.0.0.1", arguments.port, app, threaded=True)
        stack.callback(server.server_close)
        # Links in mails that no request has asked for need to know where the shop is.
        app.config["SERVER_NAME"] = f"127.0.0.1:{server.port}"
        stack.enter_context(_ENGINES[arguments.engine](app, folder))
        _welcome(f"http://127.0.0.1:{server.port}")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make shop", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    parser.add_argument("--engine", choices=_ENGINES, default="threads")
    return parser.parse_args()


def _local_app(folder: Path, relay: FaultyRelay, *, delivers: bool) -> Flask:
    app = create_app(
        {
            "SECRET_KEY": secrets.token_hex(),
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'shop.db'}",
            "POSTROOM_RELAY": relay.url,
            "POSTROOM_IN_PROCESS_WORKER": delivers,
            "SHOP_HINT": [people.ADA, people.GRACE],
        }
    )
    inbox.init_app(app, relay)
    with app.app_context():
        db.create_all()
        postroom.outbox.create_tables()
        people.settle()
    return app


def _welcome(url: str) -> None:
    parcels = Path(__file__).with_name("parcels.csv")
    text = _WELCOME.format(url=url, ada=people.ADA, grace=people.GRACE, parcels=parcels)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
