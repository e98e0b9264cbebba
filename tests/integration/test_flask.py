"""Flask: the outbox on the application's session, settings, templates and commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, g
from flask_login import LoginManager, UserMixin, login_user
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL, create_engine, select
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from postroom import (
    ConfigError,
    Message,
    Outbox,
    Recipient,
    RecipientError,
    RecipientState,
    Relay,
    Template,
    TemplateError,
)
from postroom.config.settings import Settings
from postroom.integrations.flask import Postroom
from postroom.integrations.flask.config import variables
from postroom.testing import FaultyRelay
from tests.integration.flask_shop import User, create_app, db, mail, make_tables

HELLO = Message(subject="Hi", text="Hello\n")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's: neither variables nor a settings file."""
    monkeypatch.setenv("POSTROOM_CONFIG", "")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def app(database_url: URL, relay: FaultyRelay) -> Iterator[Flask]:
    app = create_app(TESTING=True, SQLALCHEMY_DATABASE_URI=database_url, POSTROOM_RELAY=relay.url)
    make_tables(app)
    yield app
    close(app)


def close(app: Flask) -> None:
    mail.outbox_of(app).close()
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def sqlite_app(tmp_path: Path, **config: Any) -> Flask:
    app = Flask("shop", root_path=str(tmp_path))
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/shop.db"
    app.config["POSTROOM_SENDER"] = "shop@example.com"
    app.config.update(config)
    return app


def subjects(app: Flask) -> list[str]:
    with app.app_context():
        return [one.subject for one in mail.outbox.search(db.session)]


def test_mail_goes_with_the_transaction_of_the_request(app: Flask, relay: FaultyRelay) -> None:
    client = app.test_client()
    assert client.post("/orders/A-1").status_code == 200
    assert client.post("/failing-orders/A-2").status_code == 409
    assert subjects(app) == ["Order A-1"]
    mail.outbox_of(app).worker().drain()
    assert [one.recipients for one in relay.accepted] == [("A-1@example.com",)]


def test_users_are_found_by_their_ids(app: Flask) -> None:
    with app.app_context():
        ada = User(email="ada@example.com", name="Ada")
        db.session.add(ada)
        db.session.flush()
        receipt = mail.enqueue(HELLO, user_ids=[ada.id], to=["bob@example.com"], bcc=())
        assert [one.dedup_key for one in receipt.recipients] == [
            "bob@example.com",
            "ada@example.com",
        ]


def test_two_applications_keep_their_outboxes_apart(tmp_path: Path) -> None:
    apps = [
        create_app(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/{name}.db", TESTING=True)
        for name in ("first", "second")
    ]
    for app in apps:
        make_tables(app)
    apps[0].test_client().post("/orders/A-1")
    assert [subjects(app) for app in apps] == [["Order A-1"], []]
    for app in apps:
        close(app)


def test_an_application_has_one_outbox(app: Flask) -> None:
    with pytest.raises(ConfigError, match="has an outbox already"):
        Postroom(app, db)


def test_an_application_without_an_outbox_is_told_what_to_call() -> None:
    with Flask("other").app_context(), pytest.raises(ConfigError, match="init_app"):
        mail.enqueue(HELLO, to=["ada@example.com"])


def test_an_outbox_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/own.db")
    own = Outbox("null://", engine=engine, sender="Own <own@example.com>")
    own.create_tables()
    app = sqlite_app(tmp_path)
    with Session(engine) as session:
        ours = Postroom(app, outbox=own, session=lambda: session)
        with app.app_context():
            assert ours.outbox is own
            receipt = ours.enqueue(Message(subject="Hello", text="Hi"), to="ada@example.com")
            assert own.status(session, receipt).sender == "Own <own@example.com>"
    own.close()
    engine.dispose()


def test_a_plain_engine_and_a_session_will_do(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/plain.db")
    sessions = scoped_session(sessionmaker(engine))
    app = sqlite_app(tmp_path)
    plain = Postroom(app, engine=engine, session=sessions)
    with app.app_context():
        plain.outbox.create_tables()
        plain.enqueue(HELLO, to=["ada@example.com"])
        sessions.commit()
        assert len(plain.outbox.search(sessions)) == 1
    sessions.remove()
    with Session(engine) as session:
        other = sqlite_app(tmp_path)
        Postroom().init_app(other, engine=engine, session=lambda: session)
        with other.app_context():
            plain.outbox_of(other).enqueue(session, HELLO, to=["ada@example.com"])
    plain.outbox_of(app).close()
    engine.dispose()


def test_without_a_session_there_is_nothing_to_enqueue_on(tmp_path: Path) -> None:
    app = sqlite_app(tmp_path)
    alone = Postroom(app, engine=create_engine("sqlite://"))
    with app.app_context(), pytest.raises(ConfigError, match="session=…"):
        alone.enqueue(HELLO, to=["ada@example.com"])


def test_without_a_database_there_is_no_outbox(tmp_path: Path) -> None:
    app = sqlite_app(tmp_path)
    bare = Postroom(app)
    with app.app_context(), pytest.raises(ConfigError, match="init_app\\(app, db\\)"):
        bare.enqueue(HELLO, to=["ada@example.com"])


# -- settings ---------------------------------------------------------------------------------


def relay_of(app: Flask) -> Relay:
    routing = app.extensions["postroom"].settings.routing()
    assert routing is not None
    (relay,) = routing.relays.values()
    return relay


def with_settings(tmp_path: Path, **config: Any) -> Flask:
    app = sqlite_app(tmp_path, **config)
    Postroom(app, SQLAlchemy(app))
    return app


def test_the_configuration_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTROOM_RELAY", "smtp://environment.example")
    monkeypatch.setenv("POSTROOM_SHUTDOWN_GRACE_S", "7")
    monkeypatch.setenv("POSTROOM_SENDER", "environment@example.com")
    app = with_settings(tmp_path, POSTROOM_RELAY="smtp://config.example", POSTROOM_SENDER=None)
    settings = app.extensions["postroom"].settings
    assert relay_of(app).host == "config.example"
    assert settings.shutdown_grace_s == 7
    assert settings.sender == "environment@example.com"


def test_flask_mails_settings_fill_in_what_is_not_said(tmp_path: Path) -> None:
    server = {"MAIL_SERVER": "smtp.example.com", "MAIL_USE_SSL": True}
    app = with_settings(
        tmp_path, POSTROOM_SENDER="", MAIL_DEFAULT_SENDER=("Shop", "shop@example.com"), **server
    )
    assert relay_of(app).host == "smtp.example.com"
    assert app.extensions["postroom"].settings.sender == '"Shop" <shop@example.com>'
    app = with_settings(tmp_path, POSTROOM_RELAY="smtp://ours.example", **server)
    assert relay_of(app).host == "ours.example"


@pytest.mark.parametrize(
    ("config", "scheme"),
    [
        ({"MAIL_SUPPRESS_SEND": True}, "null"),
        ({"MAIL_SUPPRESS_SEND": True, "POSTROOM_RELAY": "smtp://ours.example"}, "null"),
        ({"TESTING": True}, "null"),
        ({"TESTING": True, "MAIL_SUPPRESS_SEND": False}, "smtp"),
        ({"TESTING": True, "POSTROOM_RELAY": "smtp://ours.example"}, "smtp"),
    ],
)
def test_mail_is_suppressed_where_flask_mail_would(
    tmp_path: Path, config: dict[str, Any], scheme: str
) -> None:
    app = with_settings(tmp_path, MAIL_SERVER="smtp.example.com", **config)
    assert relay_of(app).scheme == scheme


def test_a_relay_that_no_setting_can_say_is_given(tmp_path: Path, relay: FaultyRelay) -> None:
    app = sqlite_app(tmp_path)
    db = SQLAlchemy(app)
    given = Postroom(app, db, relay=Relay.parse(relay.url, name="ours"))
    with app.app_context():
        given.outbox.create_tables()
        receipt = given.enqueue(HELLO, to=["ada@example.com"])
        db.session.commit()
        status = given.outbox.deliver(db.session, receipt)
        assert status.state is RecipientState.ACCEPTED
        (attempt,) = given.outbox.attempts(db.session, receipt)
        assert attempt.relay == "ours"
        given.outbox.close()
        db.session.remove()
        db.engine.dispose()


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"POSTROOM_RELAI": "x"}, "unknown variable POSTROOM_RELAI; did you mean POSTROOM_RELAY"),
        ({"POSTROOM_RELAY": "smtp://a?tsl=off"}, "unknown relay option"),
        ({"POSTROOM_LEASE_S": 0}, "POSTROOM_LEASE_S"),
        ({"MAIL_SERVER": "a.example", "MAIL_PORT": "x"}, "MAIL_PORT"),
    ],
)
def test_what_is_wrong_is_said_when_the_application_is_made(
    tmp_path: Path, config: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        with_settings(tmp_path, **config)


# -- templates --------------------------------------------------------------------------------


THEME = {
    "templates/macros.html": "{% macro link() %}{{ url_for('index') }}{% endmacro %}",
    "templates/order.html": "{% from 'macros.html' import link %}<p>{{ shop }}: {{ n|loud }} "
    "<a href='{{ url_for('index', n=n) }}'>{{ link() }}</a> {{ g.visitor }}</p>",
    "blue/templates/blue.txt": "{{ shop }} {{ blue }}",
}


@pytest.fixture
def themed(tmp_path: Path, relay: FaultyRelay) -> Iterator[Flask]:
    """An application with templates of its own and of a blueprint, filters and context."""
    for path, source in THEME.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    app = sqlite_app(tmp_path, POSTROOM_RELAY=relay.url, TESTING=True)
    Postroom(app, SQLAlchemy(app))
    blue = Blueprint("blue", "blue", root_path=str(tmp_path / "blue"), template_folder="templates")
    blue.add_url_rule("/blue", "index", lambda: mails(app, Template("blue.txt")))
    blue.context_processor(lambda: {"blue": "and blue"})
    app.add_template_filter(str.upper, "loud")
    app.context_processor(lambda: {"shop": "Tea & Co", "n": "not this"})

    @app.get("/")
    def index() -> str:
        g.visitor = "Ada"
        return mails(app, Template("order.html", n="a-1"), html=True)

    app.register_blueprint(blue)
    with app.app_context():
        app.extensions["postroom"].outbox.create_tables()
    yield app
    app.extensions["postroom"].outbox.close()
    with app.app_context():
        app.extensions["sqlalchemy"].session.remove()
        app.extensions["sqlalchemy"].engine.dispose()


def mails(app: Flask, body: Template, *, html: bool = False) -> str:
    """Enqueue a mail with that body, deliver it; return it as it arrived."""
    ours = app.extensions["postroom"]
    session = app.extensions["sqlalchemy"].session
    said = Message(subject="Hi", html=body) if html else Message(subject="Hi", text=body)
    ours.outbox.enqueue(session, said, to=["ada@example.com"])
    session.commit()
    return "ok"


def arrived(app: Flask, relay: FaultyRelay, kind: str) -> str:
    app.extensions["postroom"].outbox.worker().drain()
    message = message_from_bytes(relay.accepted[-1].content, policy=policy.default)
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content()).strip()


def test_a_template_sees_what_a_page_would_and_full_urls(themed: Flask, relay: FaultyRelay) -> None:
    themed.test_client().get("/", base_url="https://tea.example")
    assert arrived(themed, relay, "html") == (
        "<p>Tea &amp; Co: A-1 <a href='https://tea.example/?n=a-1'>https://tea.example/</a> Ada</p>"
    )


def test_a_blueprints_folder_and_context_are_seen(themed: Flask, relay: FaultyRelay) -> None:
    themed.test_client().get("/blue")
    assert arrived(themed, relay, "plain") == "Tea & Co and blue"


def test_outside_a_request_urls_come_from_the_server_name(
    themed: Flask, relay: FaultyRelay
) -> None:
    body = Template.from_string("{{ url_for('index') }}")
    with themed.app_context(), pytest.raises(TemplateError, match="SERVER_NAME"):
        mails(themed, body)
    themed.config.update(SERVER_NAME="shop.example", PREFERRED_URL_SCHEME="https")
    with themed.app_context():
        mails(themed, body)
    assert arrived(themed, relay, "plain") == "https://shop.example/"


def test_a_template_for_each_recipient_takes_plain_context_along(
    themed: Flask, relay: FaultyRelay
) -> None:
    ours = themed.extensions["postroom"]
    session = themed.extensions["sqlalchemy"].session
    ada = Recipient("ada@example.com", {"name": "Ada"})
    with themed.app_context():
        good = Template.from_string("{{ name }} at {{ shop }}")
        ours.outbox.enqueue(session, Message(subject="Hi", text=good), to=[ada])
        session.commit()
        bad = Template.from_string("{{ name }} {{ url_for('index') }}")
        with pytest.raises(TemplateError, match="url_for"):
            ours.outbox.enqueue(session, Message(subject="Hi", text=bad), to=[ada])
    assert arrived(themed, relay, "plain") == "Ada at Tea & Co"


def test_folders_that_a_setting_names_stand_instead(tmp_path: Path) -> None:
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "hi.txt").write_text("{{ shop }}!")
    app = sqlite_app(tmp_path, POSTROOM_TEMPLATES=str(tmp_path / "mails"))
    db = SQLAlchemy(app)
    ours = Postroom(app, db)
    app.context_processor(lambda: {"shop": "Tea & Co"})
    with app.app_context():
        ours.outbox.create_tables()
        ours.enqueue(Message(subject="Hi", text=Template("hi.txt")), to=["ada@example.com"])
        db.session.rollback()
        ours.outbox.close()
        db.engine.dispose()


# -- the current user -------------------------------------------------------------------------


class Somebody(UserMixin):
    id = 1


def test_flask_login_says_who_is_signed_in(app: Flask) -> None:
    logins = LoginManager(app)
    logins.user_loader(lambda _: Somebody())
    app.secret_key = "secret"
    with app.app_context():
        db.session.add(User(id=1, email="ada@example.com", name="Ada"))
        db.session.commit()
    with app.test_request_context():
        with pytest.raises(RecipientError, match="no user is signed in"):
            mail.enqueue_to_current_user(HELLO)
        login_user(Somebody())
        receipt = mail.enqueue_to_current_user(HELLO, to=["bob@example.com", "ADA@example.com"])
    assert {one.dedup_key for one in receipt.recipients} == {"bob@example.com", "ada@example.com"}


def test_a_function_may_say_who_is_signed_in(tmp_path: Path) -> None:
    app = sqlite_app(tmp_path)
    shop = SQLAlchemy(app)
    table = shop.Table("account", shop.Column("id", shop.Integer), shop.Column("mail", shop.String))
    ours = Postroom(app, shop, users=select(table.c.id, table.c.mail), user_id=lambda: g.get("id"))
    with app.app_context():
        shop.create_all()
        ours.outbox.create_tables()
        shop.session.execute(table.insert().values(id=7, mail="grace@example.com"))
        with pytest.raises(RecipientError):
            ours.enqueue_to_current_user(HELLO)
        g.id = "7"
        receipt = ours.enqueue_to_current_user(HELLO)
        assert [one.dedup_key for one in receipt.recipients] == ["grace@example.com"]
        shop.session.remove()
        ours.outbox.close()
        shop.engine.dispose()


def test_without_flask_login_a_function_is_asked_for(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flask_login", None)
    with app.app_context(), pytest.raises(ConfigError, match="user_id=…"):
        mail.enqueue_to_current_user(HELLO)


# -- commands ---------------------------------------------------------------------------------


def test_the_commands_work_on_the_applications_outbox(
    app: Flask, relay: FaultyRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", dict(os.environ))
    app.test_client().post("/orders/A-1")
    runner = app.test_cli_runner()
    assert "postroom" in runner.invoke(args=["--help"]).output
    assert runner.invoke(args=["postroom", "--help"]).exit_code == 0
    assert runner.invoke(args=["postroom", "worker", "--drain"]).exit_code == 0
    assert [one.recipients for one in relay.accepted] == [("A-1@example.com",)]
    listed = runner.invoke(args=["postroom", "search", "--json"])
    assert '"subject": "Order A-1"' in listed.output
    assert runner.invoke(args=["postroom", "status", "99"]).exit_code == 4
    assert runner.invoke(args=["postroom", "relay", "check"]).exit_code == 0


def test_the_commands_find_the_applications_templates(
    themed: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", dict(os.environ))
    folder = Path(themed.root_path) / "templates"
    (folder / "hello.subject.txt").write_text("Hello")
    (folder / "hello.txt").write_text("Hello from the shop")
    shown = themed.test_cli_runner().invoke(args=["postroom", "preview", "hello"])
    assert "Hello from the shop" in shown.output


def test_every_setting_reaches_the_commands(tmp_path: Path) -> None:
    app = with_settings(
        tmp_path,
        POSTROOM_RELAY={"main": "smtp://a.example", "bulk": "smtps://u:p@b.example?rate=5/s"},
        POSTROOM_RELAY_BY_LANE={"bulk": "bulk"},
        POSTROOM_LANE_WEIGHTS={"urgent": 9},
        POSTROOM_TEMPLATES=[str(tmp_path)],
        POSTROOM_INLINE_CSS=True,
        POSTROOM_LOG_FORMAT="json",
        POSTROOM_ON_DOUBT="hold",
        POSTROOM_REDIRECT_ALL_TO="staging@example.com",
    )
    settings = app.extensions["postroom"].settings
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables(settings).items():
            environment.setenv(name, value)
        assert Settings.load() == settings
