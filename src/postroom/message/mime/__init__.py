"""Turns a draft into the exact bytes of a mail (RFC 5322, MIME); the same draft, the same bytes."""

from __future__ import annotations

from postroom.message.mime.compose import check, compose, message_id_for
from postroom.message.mime.content import Content

__all__ = ["Content", "check", "compose", "message_id_for"]
