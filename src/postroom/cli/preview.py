"""``preview``: a message as its recipient will see it, or its exact bytes."""

from __future__ import annotations

import base64
import os
import tempfile
import time
import webbrowser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import Annotated

import typer

from postroom.cli.context import open_outbox
from postroom.cli.errors import CommandError, ExitCode, describe, not_found
from postroom.cli.message_options import context_of, templated
from postroom.cli.output import echo, pairs, print_error, write_bytes, write_text
from postroom.config.settings import Settings
from postroom.errors import PostroomError
from postroom.message.address import Address
from postroom.message.attachment import Attachment
from postroom.message.draft import EnqueueContext, make_draft
from postroom.message.message import StoredAttachment
from postroom.message.mime import message_id_for
from postroom.message.templates import Templates
from postroom.storage import attachments
from postroom.storage.attachments import spool
from postroom.storage.preview import RenderedCopy, rendered_copy
from postroom.storage.tables import tables

#: Allows only what the page itself contains (https://www.w3.org/TR/CSP3/).
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src data:",
        "font-src data:",
        "style-src 'unsafe-inline'",
        "form-action 'none'",
        "base-uri 'none'",
    )
)

#: The frame's document inherits the page's policy. ``sandbox`` without a value forbids scripts,
#: forms, new windows and navigation of the page.
_PAGE = """<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{refresh}<title>{title}</title>
<style>html, body {{ height: 100%; margin: 0 }} iframe {{ width: 100%; height: 100%; border: 0 }}\
</style>
</head>
<body><iframe sandbox referrerpolicy="no-referrer" srcdoc="{mail}"></iframe></body>
</html>
"""

_RELOAD = '<meta http-equiv="refresh" content="1">\n'

#: A preview is not sent: its sender, recipient and Message-ID are only examples.
_SENDER = Address("sender@example.com")

_RECIPIENT = Address("recipient@example.com")

_MESSAGE_ID_SEED = "0" * 32

#: Short enough for a person who has just saved a file.
_POLL_S = 0.3

_STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a copy is shown: in a file, as HTML, in a browser, or else as text."""

    out: Path | None
    html: bool
    browser: Browser | None

    def show(self, copy: RenderedCopy) -> None:
        """Show the copy."""
        if self.out is not None:
            _write(copy, self.out)
        elif self.browser is not None:
            self.browser.show(str(copy.draft.subject), _self_contained(copy))
        elif self.html:
            write_text(_html_of(copy) + "\n")
        else:
            _print(copy)


def preview(
    what: Annotated[
        str, typer.Argument(metavar="ID|NAME", help="A stored message, or the name of templates.")
    ],
    context: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON file with the templates' context.")
    ] = None,
    locale: Annotated[str | None, typer.Option(help="The templates' language.")] = None,
    inline: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An image that the HTML shows.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Whose copy; default: the first recipient's."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the exact bytes (.eml); - is standard output."),
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML.")] = False,
    in_browser: Annotated[
        bool, typer.Option("--open", help="Open the HTML in a browser, images included.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again when a file changes.")
    ] = False,
) -> None:
    """Show a message without sending it: its text, its HTML, or its exact bytes."""
    browser = Browser(reloads=watch) if in_browser else None
    view = View(out=out, html=html, browser=browser)
    if what.isdecimal():
        if watch:
            raise typer.BadParameter("a stored message never changes: leave out --watch")
        with stored_copy(int(what), to) as copy:
            view.show(copy)
        return
    sample = Sample(name=what, context=context, locale=locale, inline=inline or ())
    if watch:
        watch_files(sample.files(), partial(_show, view, sample, to))
    _show(view, sample, to)


def _show(view: View, sample: Sample, to: str | None) -> None:
    with rendered_templates(sample, to) as copy:
        view.show(copy)


def _write(copy: RenderedCopy, out: Path) -> None:
    if out == _STANDARD_OUTPUT:
        write_bytes(copy.chunks())
        return
    with open(out, "wb", opener=_open_privately) as file:
        file.writelines(copy.chunks())
    echo(f"{out} written, {out.stat().st_size:,} bytes")


def _open_privately(path: str, flags: int) -> int:
    """Open a file; a new one is readable by its owner only."""
    return os.open(path, flags, 0o600)


def _html_of(copy: RenderedCopy) -> str:
    html = copy.draft.html
    if html is None:
        raise CommandError("the message has no HTML: leave out --html or --open", ExitCode.USAGE)
    return str(html)


def _self_contained(copy: RenderedCopy) -> str:
    """Return the HTML with its inline images embedded, because browsers do not know ``cid:``."""
    page = _html_of(copy)
    for part in copy.draft.attachments:
        if part.content_id is not None:
            page = page.replace(f"cid:{part.content_id}", _data_url(part))
    return page


def _data_url(part: StoredAttachment) -> str:
    encoded = base64.b64encode(b"".join(part.open())).decode("ascii")
    return f"data:{part.content_type};base64,{encoded}"


def _print(copy: RenderedCopy) -> None:
    draft = copy.draft
    attachments = (f"{part.filename} ({part.size_bytes:,} bytes)" for part in draft.attachments)
    head = {
        "from": draft.sender,
        "to": copy.to or ", ".join(map(str, draft.to)),
        "cc": ", ".join(map(str, draft.cc)),
        "subject": draft.subject,
        "attached": ", ".join(attachments),
        "message-id": copy.message_id,
    }
    echo(pairs(head))
    echo()
    echo(str(draft.text if draft.text is not None else draft.html or ""))


class Browser:
    """Shows a page in the browser.

    Args:
        reloads: The page reloads itself, so that a later `show` replaces it.
    """

    def __init__(self, *, reloads: bool) -> None:
        self._reloads = reloads
        self._file: Path | None = None

    def show(self, title: str, mail: str) -> None:
        """Write the page to a file of its own, and open it the first time.

        Args:
            title: The title of the page: the mail's subject.
            mail: The mail's HTML; it cannot do anything in the browser.
        """
        content = _PAGE.format(
            policy=_POLICY,
            refresh=_RELOAD if self._reloads else "",
            title=escape(title),
            mail=escape(mail),
        )
        if self._file is not None:
            self._file.write_text(content, encoding="utf-8")
            return
        descriptor, name = tempfile.mkstemp(prefix="postroom-", suffix=".html")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        self._file = Path(name)
        echo(name)
        webbrowser.open(self._file.as_uri())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Templates to preview, and what they are rendered with.

    Attributes:
        name: The templates' common name.
        context: A JSON file with their context.
        locale: Their language.
        inline: Images that the HTML shows.
    """

    name: str
    context: Path | None
    locale: str | None
    inline: Sequence[Path]

    def files(self) -> tuple[Path, ...]:
        """Return the files and folders that the preview is made from."""
        context = () if self.context is None else (self.context,)
        return (*Settings.load().templates, *context, *self.inline)


@contextmanager
def stored_copy(message_id: int, to: str | None) -> Iterator[RenderedCopy]:
    """Yield the copy of ``to``, or of the first recipient.

    Raises:
        CommandError: there is no such message, or it has no such recipient.
    """
    with open_outbox() as context, context.reading() as connection:
        outbox_tables = tables(context.settings.database_schema)
        copy = rendered_copy(
            connection,
            outbox_tables,
            message_id,
            partial(attachments.read_blob, context.engine, outbox_tables),
            None if to is None else Address(to),
        )
        if copy is None:
            raise not_found(message_id, to)
        yield copy


@contextmanager
def rendered_templates(sample: Sample, to: str | None) -> Iterator[RenderedCopy]:
    """Yield what the templates in the settings' folders render to; no database is used.

    Raises:
        TemplateError: a template is missing or fails; the text names file and line.
    """
    settings = Settings.load()
    message = templated(sample.name, context_of(sample.context), sample.locale)
    enqueue_context = EnqueueContext(
        sender=Address(settings.sender) if settings.sender else _SENDER,
        templates=Templates.of(settings.templates, inline_css=settings.inline_css),
        message_id_seed=_MESSAGE_ID_SEED,
        date=datetime.now(UTC),
    )
    images = [Attachment.inline(path) for path in sample.inline]
    with spool(images, settings.max_message_bytes) as files:
        parts = [file.part for file in files]
        draft = make_draft(message, enqueue_context, parts=parts, has_variables=False)
        yield RenderedCopy(
            draft=draft,
            to=_RECIPIENT if to is None else Address(to),
            message_id=message_id_for(draft.message_id_seed, None, draft.sender),
        )


def watch_files(paths: Iterable[Path], show: Callable[[], None]) -> None:
    """Call ``show`` now and after each change below ``paths``, until Ctrl-C.

    Errors in the files are printed, and the next change is awaited.
    """
    files = tuple(paths)
    last: Mapping[Path, int] | None = None
    while True:
        found = _changes(files)
        if found != last:
            last = found
            _show_safely(show)
        time.sleep(_POLL_S)


def _show_safely(show: Callable[[], None]) -> None:
    try:
        show()
    except (PostroomError, OSError) as error:
        print_error(describe(error).text)


def _changes(paths: Iterable[Path]) -> dict[Path, int]:
    return dict(_times(file) for path in paths for file in _files(path))


def _times(file: Path) -> tuple[Path, int]:
    try:
        return file, file.stat().st_mtime_ns
    except FileNotFoundError:  # an editor is replacing it
        return file, 0


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
