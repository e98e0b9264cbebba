"""An application's own templates in its mails: its folders, its context, its URLs in full."""

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

    They see what ``render_template`` would give them, and ``url_for`` gives URLs with scheme and
    host: a mail is read elsewhere.
    """
    base = app.jinja_env.overlay()
    if settings.templates:
        base.loader = jinja2.FileSystemLoader([str(folder) for folder in settings.templates])
    # Macros of an imported file see globals only, so it does not do to give it as context.
    base.globals = {**app.jinja_env.globals, "url_for": partial(_url_for, app)}
    return Templates(
        base, inline_css=settings.inline_css, ambient=partial(_context_processors, app)
    )


def folders_of(app: Flask, settings: Settings) -> list[str]:
    """Return the folders that mails' templates are in, for the command, which has no ``app``."""
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
    """Return what the application's context processors give."""
    context: dict[str, Any] = {}
    is_inside = has_app_context() and current_app == app
    # Another context would have another ``g``.
    with nullcontext() if is_inside else app.app_context():
        app.update_template_context(context)
    return context
