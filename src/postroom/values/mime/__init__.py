"""From a draft to the exact bytes (RFC 5322, MIME), deterministic and built once."""

from __future__ import annotations

from postroom.values.mime.compose import check, compose
from postroom.values.mime.content import Content
from postroom.values.mime.identity import message_id_for

__all__ = ["Content", "check", "compose", "message_id_for"]
