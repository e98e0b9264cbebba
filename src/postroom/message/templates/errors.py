"""Turns whatever Jinja raises into a ``TemplateError`` that names file and line.

Its text says what is wrong and what to do, for the person who wrote the template.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import jinja2
from jinja2.exceptions import SecurityError

from postroom.errors import TemplateError, TemplateTooSlow


@contextmanager
def compiling(name: str) -> Iterator[None]:
    """Turn errors in a source into a ``TemplateError``.

    The compiler of Python raises four kinds of errors for a source that is nested too deeply.

    Args:
        name: The name of the template.
    """
    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        raise template_error(error, name) from error
    except (RecursionError, MemoryError, SyntaxError, OverflowError) as error:
        raise TemplateError(
            f"{name}: it is nested too deeply ({type(error).__name__}); use fewer loops, brackets "
            "or conditions inside each other"
        ) from error


def template_error(error: Exception, name: str) -> TemplateError:
    """Return ``error`` as a ``TemplateError`` that names the template and the line.

    Args:
        error: What Jinja raised.
        name: The template that was rendered. The text names the one with the error, which may be
            another one that it includes or extends.
    """
    if isinstance(error, jinja2.TemplateSyntaxError):
        return TemplateError(
            f"{error.name or name}, line {error.lineno}: not a valid template: "
            f"{_one_line(error.message or '')}"
        )
    location = _location(error.__traceback__) or name
    kind = TemplateTooSlow if isinstance(error, TemplateTooSlow) else TemplateError
    return kind(f"{location}: {_reason(error)}")


def _location(traceback: TracebackType | None) -> str | None:
    """Return name and line of the innermost template in ``traceback``."""
    found = None
    while traceback is not None:
        # Jinja keeps the template in the globals of the module that it was compiled to.
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            line = template.get_corresponding_lineno(traceback.tb_lineno)
            found = f"{template.name}, line {line}"
        traceback = traceback.tb_next
    return found


def _reason(error: Exception) -> str:
    match error:
        case TemplateError():
            return str(error)
        case jinja2.TemplateNotFound():
            return f"there is no template {_text_of(error)}; check its name"
        case jinja2.UndefinedError():
            return f"{_text_of(error)}; give it to the Template, or as a variable of the recipient"
        case RecursionError():
            return "it includes or calls itself endlessly, or is nested too deeply"
        case SecurityError():
            return f"the sandbox does not allow it: {_text_of(error)}"
        case _:
            return f"it cannot be rendered: {type(error).__name__}: {_text_of(error)}"


def _text_of(error: Exception) -> str:
    """Return the text of an error; the ``__str__`` of an application's own class may fail."""
    try:
        return _one_line(str(error))
    except Exception:
        return f"a {type(error).__name__} without a text"


def _one_line(text: str) -> str:
    return " ".join(text.split())
