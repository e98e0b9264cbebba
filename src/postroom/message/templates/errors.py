"""From whatever Jinja raises to one ``TemplateError`` that names file and line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import jinja2
from jinja2.exceptions import SecurityError

from postroom.errors import TemplateError, TemplateTooSlow


@contextmanager
def compiling(name: str) -> Iterator[None]:
    """Turn what Jinja and Python raise about a source into a ``TemplateError``.

    Python's own compiler gives up on what is nested too deeply, in four ways.
    """
    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        raise template_error(error, name) from error
    except (RecursionError, MemoryError, SyntaxError, OverflowError) as error:
        raise TemplateError(
            f"{name}: it is nested too deeply to be compiled ({type(error).__name__}); use fewer "
            "loops, brackets or conditions within each other"
        ) from error


def template_error(error: Exception, name: str) -> TemplateError:
    """Return ``error`` as a ``TemplateError`` that says where in which template it arose.

    ``name`` is the template that was asked for; the text names the one, included or extended
    by it, where the fault is.
    """
    if isinstance(error, jinja2.TemplateSyntaxError):
        return TemplateError(
            f"{error.name or name}, line {error.lineno}: expected a valid template, "
            f"got: {_one_line(error.message or '')}"
        )
    where = _place(error.__traceback__) or name
    kind = TemplateTooSlow if isinstance(error, TemplateTooSlow) else TemplateError
    return kind(f"{where}: {_reason(error)}")


def _place(traceback: TracebackType | None) -> str | None:
    """Return name and line of the innermost template in ``traceback``."""
    found = None
    while traceback is not None:
        # Jinja leaves the template in the globals of the module it compiled it to.
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
            return f"expected an existing template, got: {_said(error)}"
        case jinja2.UndefinedError():
            return (
                f"expected every variable to be given, got: {_said(error)}; give it to "
                "the Template or as a recipient's variable"
            )
        case RecursionError():
            return "it includes or calls itself without an end, or is nested too deeply"
        case SecurityError():
            return f"expected what the sandbox allows, got: {_said(error)}"
        case _:
            return f"expected to render, got: {type(error).__name__}: {_said(error)}"


def _said(error: Exception) -> str:
    """Return what an error says; one of an application's own classes may fail at that."""
    try:
        return _one_line(str(error))
    except Exception:
        return f"a {type(error).__name__} that does not say what"


def _one_line(text: str) -> str:
    return " ".join(text.split())
