"""An inbox on this machine, for trying the shop: a relay that delivers to a page.

Everybody's mail is shown to anybody. It has no place in an application that others can reach.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from flask import Blueprint, Flask, Response, abort, current_app, render_template, send_file
from flask.typing import ResponseReturnValue

from postroom import Phase
from postroom.testing import Accepted, FaultyRelay

#: A mail may hold anything. It runs no script, loads nothing, and is no page of the shop's.
_POLICY = (
    "sandbox allow-top-navigation-by-user-activation; "
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
)

pages = Blueprint("inbox", __name__, url_prefix="/inbox")


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail that arrived, opened."""

    accepted: Accepted

    @property
    def mail(self) -> EmailMessage:
        """The mail, parsed."""
        parsed = message_from_bytes(self.accepted.content, policy=default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who got it."""
        return self.accepted.recipients

    @property
    def subject(self) -> str:
        """What it says it is about."""
        return str(self.mail["Subject"])

    @property
    def attachments(self) -> list[EmailMessage]:
        """What is attached."""
        return list(self.mail.iter_attachments())

    @property
    def files(self) -> list[str]:
        """The names of what is attached."""
        return [str(part.get_filename()) for part in self.attachments]


def init_app(app: Flask, relay: FaultyRelay) -> None:
    """Show what ``relay`` takes; it is as unkind to some as real ones are."""
    relay.on(Phase.RCPT, "550 5.1.1 no such user here", address="linus@moved.example")
    relay.on(
        Phase.RCPT, "451 4.7.1 greylisted, come back", address="greta@greylist.example", times=1
    )
    app.extensions["shop-inbox"] = relay
    app.jinja_env.globals.update(has_inbox=True)
    app.register_blueprint(pages)


@pages.get("/")
def index() -> ResponseReturnValue:
    """Show what has arrived, the newest first."""
    letters = [(number, Letter(one)) for number, one in enumerate(_relay().accepted)]
    return render_template("inbox.html", letters=letters[::-1])


@pages.get("/<int:number>")
def show(number: int) -> ResponseReturnValue:
    """Show one mail."""
    return render_template("letter.html", letter=_letter(number), number=number)


@pages.get("/<int:number>/body")
def body(number: int) -> ResponseReturnValue:
    """Return its HTML, for a frame that keeps it apart."""
    part = _letter(number).mail.get_body(("html", "plain"))
    content = "" if part is None else part.get_content()
    is_html = part is not None and part.get_content_type() == "text/html"
    page = f'<base target="_top">{content}' if is_html else content
    mimetype = "text/html" if is_html else "text/plain"
    return Response(page, mimetype=mimetype, headers={"Content-Security-Policy": _POLICY})


@pages.get("/<int:number>/source.eml")
def source(number: int) -> ResponseReturnValue:
    """Return the mail as it came over the wire, to be opened by a mail reader."""
    content = io.BytesIO(_letter(number).accepted.content)
    return send_file(content, "message/rfc822", as_attachment=True, download_name="mail.eml")


@pages.get("/<int:number>/files/<int:position>")
def file(number: int, position: int) -> ResponseReturnValue:
    """Return what is attached."""
    attachments = _letter(number).attachments
    if position >= len(attachments):
        abort(404)
    part = attachments[position]
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    name = part.get_filename()
    return send_file(
        io.BytesIO(content), part.get_content_type(), as_attachment=True, download_name=name
    )


def _relay() -> FaultyRelay:
    relay: FaultyRelay = current_app.extensions["shop-inbox"]
    return relay


def _letter(number: int) -> Letter:
    accepted = _relay().accepted
    if number >= len(accepted):
        abort(404)
    return Letter(accepted[number])
