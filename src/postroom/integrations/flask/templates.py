"""An application's templates in its mails: its folders, its context, and absolute URLs."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from flask import Flask, current_app, has_app_context

from postroom.config.settings import Settings
from postroom.message.templates import Templates


def templates_of(app: Flask, settings: Settings) -> Templates:
    """Return the templates of ``app``, or those in the folders that its settings name.

    They see the same context as with ``render_template``, and ``url_for`` returns URLs with scheme
    and host, because a mail is read elsewhere.
    """
    base = app.jinja_env.overlay()
    if settings.templates:
        base.loader = jinja2.FileSystemLoader([str(folder) for folder in settings.templates])
    # As a global and not as context: macros of an imported file see globals only.
    base.globals = {**app.jinja_env.globals, "url_for": partial(_url_for, app)}
    return Templates(
        base, inline_css=settings.inline_css, ambient=partial(_context_processors, app)
    )


def folders_of(app: Flask, settings: Settings) -> list[str]:
    """Return the folders with templates, for the command, which has no ``app``."""
    if settings.templates:
        return [str(folder) for folder in settings.templates]
    loaders = [app.jinja_loader, *(part.jinja_loader for part in app.blueprints.values())]
    return [
        folder
        for loader in loaders
        if isinstance(loader, jinja2.FileSystemLoader)
        for folder in loader.searchpath
        if Path(folder).is_dir()
    ]


def _url_for(app: Flask, endpoint: str, **values: Any) -> str:
    return app.url_for(endpoint, **{"_external": True, **values})


def _context_processors(app: Flask) -> dict[str, Any]:
    """Return the values of the application's context processors."""
    context: dict[str, Any] = {}
    is_inside = has_app_context() and current_app == app
    # A new context would have another ``g``.
    with nullcontext() if is_inside else app.app_context():
        app.update_template_context(context)
    return context
