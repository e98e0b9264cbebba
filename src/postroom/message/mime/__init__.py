"""From a draft to the exact bytes (RFC 5322, MIME), deterministic and built once."""

from __future__ import annotations

from postroom.message.mime.compose import check, compose, message_id_for
from postroom.message.mime.content import Content

__all__ = ["Content", "check", "compose", "message_id_for"]
