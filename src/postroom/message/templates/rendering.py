"""One rendering: its output, and what the functions and filters it calls may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import jinja2

from postroom.errors import TemplateError
from postroom.message.templates.budget import DEFAULT_BUDGET, Meter
from postroom.message.templates.errors import template_error

#: Variables and inline attachments of the rendering under way, and what is left of its budget. A
#: context variable, because macros of an imported file see an environment's globals but not the
#: context.
_current: ContextVar[tuple[Mapping[str, Any], Mapping[str, str], Meter]] = ContextVar(
    "postroom_rendering"
)


def render(
    template: jinja2.Template,
    variables: Mapping[str, Any],
    inline: Mapping[str, str],
    meter: Meter,
) -> str:
    """Return the output of a compiled template, counted by ``meter``.

    Raises:
        TemplateError: it does not render; the text names file and line.
        TemplateTooSlow: it takes more than the budget of ``meter``.
        MemoryError: this machine has no more, which says nothing about the template.
    """
    token = _current.set((variables, inline, meter))
    try:
        # What Template.render does, but for the traceback: Jinja would rewrite it before we
        # read file and line from it.
        parts = template.root_render_func(template.new_context(dict(variables)))
        output = meter.joined(parts)
    except MemoryError:
        raise
    except Exception as error:
        raise template_error(error, template.name or "template") from error
    else:
        return output
    finally:
        _current.reset(token)


def meter() -> Meter:
    """Return the meter of the rendering under way, or a fresh one while a template is compiled."""
    current = _current.get(None)
    return DEFAULT_BUDGET.meter() if current is None else current[2]


def current_context(name: str) -> Any:
    """Return the variable ``name`` of the rendering under way, None where it has none."""
    return _current.get()[0].get(name)


def inline_url(filename: str) -> str:
    """Return the ``cid:`` URL of an inline attachment of the message (RFC 2392).

    Raises:
        TemplateError: the message has no inline attachment of that name.
    """
    attached = _current.get()[1]
    if filename not in attached:
        known = ", ".join(sorted(attached)) or "none at all"
        raise TemplateError(
            f"expected inline({filename!r}) to name an inline attachment of the message, "
            f"got one that has: {known}; add Attachment.inline({filename!r})"
        )
    return f"cid:{attached[filename]}"
