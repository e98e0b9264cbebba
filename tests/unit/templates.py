"""Folders of templates for the tests of templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from postroom.message.templates import FrozenTemplate, Template, Templates, freeze

NOTHING = Templates.of(None)


def folder(**sources: str) -> Templates:
    """Return templates by name; ``order_html`` stands for ``order.html``."""
    return Templates.of(jinja2.DictLoader({dotted(name): text for name, text in sources.items()}))


def dotted(name: str) -> str:
    stem, _, suffix = name.rpartition("_")
    return f"{stem}.{suffix}"


def text_of(value: str | Template, templates: Templates = NOTHING, **options: Any) -> str:
    """Return what becomes of ``value`` at enqueue."""
    frozen = freeze(value, templates, **{"html": False, "has_variables": False, **options})
    assert isinstance(frozen, str)
    return frozen


def html_of(value: str | Template, templates: Templates = NOTHING, **options: Any) -> str:
    return text_of(value, templates, html=True, **options)


def source_of(
    value: Template, templates: Templates = NOTHING, *, html: bool = False, **options: Any
) -> FrozenTemplate:
    """Return ``value`` frozen for delivery, as a worker reads it from the database."""
    frozen = freeze(value, templates, html=html, has_variables=True, **options)
    assert isinstance(frozen, FrozenTemplate)
    restored = FrozenTemplate.from_json(frozen.to_json())
    assert restored == frozen
    return restored


def delivered(
    value: Template,
    templates: Templates = NOTHING,
    variables: Mapping[str, Any] | None = None,
    **options: Any,
) -> str:
    """Return what one recipient gets."""
    return source_of(value, templates, **options).render(variables or {})
