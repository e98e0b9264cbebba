"""Visiting the shop without a browser, and opening the mail that it sends."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from examples.shop.booking import book_waiting
from examples.shop.mail import postroom
from postroom.testing import FaultyRelay


@dataclass(frozen=True, slots=True)
class Visitor:
    """Keeps cookies, follows redirects, sends forms with what stands in them already."""

    client: FlaskClient

    def get(self, url: str) -> TestResponse:
        return self.client.get(url, follow_redirects=True)

    def post(self, url: str, *, form_on: str, **fields: Any) -> TestResponse:
        """Send the form that stands on the page ``form_on``."""
        token = re.findall(r'name="csrf_token" value="([^"]+)"', self.get(form_on).text)[0]
        return self.client.post(url, data={"csrf_token": token, **fields}, follow_redirects=True)


@dataclass(frozen=True, slots=True)
class Shop:
    """The shop, and the relay that takes its mail."""

    app: Flask
    relay: FaultyRelay

    def visitor(self) -> Visitor:
        return Visitor(self.app.test_client())

    def signed_in(self, email: str) -> Visitor:
        """Return a visitor who has asked for a link, got it by mail and opened it."""
        visitor = self.visitor()
        visitor.post("/sign-in", form_on="/sign-in", email=email)
        visitor.get(link_in(self.delivered()[-1]))
        return visitor

    def delivered(self) -> list[EmailMessage]:
        """Deliver what is due; return all that has arrived so far."""
        with self.app.app_context():
            postroom.outbox.worker().drain()
        return [parsed(one.content) for one in self.relay.accepted]

    def booked(self) -> None:
        """Do what the thread in the background does."""
        with self.app.app_context():
            book_waiting()


def parsed(content: bytes) -> EmailMessage:
    mail = message_from_bytes(content, policy=default)
    assert isinstance(mail, EmailMessage)
    return mail


def body_of(mail: EmailMessage) -> str:
    body = mail.get_body(("html",))
    assert body is not None
    return str(body.get_content())


def link_in(mail: EmailMessage) -> str:
    """Return where the button of a mail leads."""
    return html.unescape(re.findall(r'href="([^"]+)"', body_of(mail))[0])


def files_of(mail: EmailMessage) -> dict[str, bytes]:
    """Return what is attached, by name."""
    files: dict[str, bytes] = {}
    for part in mail.iter_attachments():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        files[str(part.get_filename())] = content
    return files
