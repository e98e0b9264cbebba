"""Renders a template, and gives its functions and filters access to the current rendering.

Every rendering is metered, and every error names the template and the line.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import jinja2

from postroom.errors import TemplateError
from postroom.message.templates.budget import DEFAULT_BUDGET, Meter
from postroom.message.templates.errors import template_error

#: The variables, inline attachments and meter of the current rendering. It is a context variable,
#: because macros of an imported file see the globals of an environment but not the context.
_current: ContextVar[tuple[Mapping[str, Any], Mapping[str, str], Meter]] = ContextVar(
    "postroom_rendering"
)


def render(
    template: jinja2.Template,
    variables: Mapping[str, Any],
    inline: Mapping[str, str],
    meter: Meter,
) -> str:
    """Return the output of a compiled template.

    Args:
        template: The template.
        variables: Its variables.
        inline: The content ids of the message's inline attachments, by file name.
        meter: Counts what the rendering takes.

    Raises:
        TemplateError: It cannot be rendered; the text names file and line.
        TemplateTooSlow: It takes more than the budget of ``meter``.
        MemoryError: The machine has no more memory, which is not the fault of the template.
    """
    token = _current.set((variables, inline, meter))
    try:
        # Not Template.render, which rewrites the traceback from which file and line are read.
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
    """Return the meter of the current rendering, or a new one while a template is compiled."""
    current = _current.get(None)
    return DEFAULT_BUDGET.meter() if current is None else current[2]


def current_context(name: str) -> Any:
    """Return a variable of the current rendering; None if it has none of that name.

    Args:
        name: The name of the variable.
    """
    return _current.get()[0].get(name)


def inline_url(filename: str) -> str:
    """Return the ``cid:`` URL of an inline attachment of the message (RFC 2392).

    Args:
        filename: The file name of the attachment.

    Raises:
        TemplateError: The message has no inline attachment of that name.
    """
    attached = _current.get()[1]
    if filename not in attached:
        known = ", ".join(sorted(attached)) or "it has none"
        raise TemplateError(
            f"inline({filename!r}) does not name an inline attachment of the message ({known}); "
            f"add Attachment.inline({filename!r})"
        )
    return f"cid:{attached[filename]}"
