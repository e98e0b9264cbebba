"""``preview``: a message as its recipient will see it, and as it goes over the wire."""

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

#: What is in the page already, and nothing else (https://www.w3.org/TR/CSP3/).
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

#: The frame's document has the policy of the page around it; ``sandbox`` without a word lets it
#: run no script, send no form, open no window and leave its frame for no other page.
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

_LOADS_AGAIN = '<meta http-equiv="refresh" content="1">\n'


class Browser:
    """Shows one page. Where it ``loads_again``, what is shown later replaces it."""

    def __init__(self, *, loads_again: bool) -> None:
        self._loads_again = loads_again
        self._file: Path | None = None

    def show(self, title: str, mail: str) -> None:
        """Write the page to a file of its own, and open it where that has not been done.

        Args:
            title: The title of the page: the mail's subject.
            mail: The mail's HTML; it cannot do anything in the browser.
        """
        content = _PAGE.format(
            policy=_POLICY,
            refresh=_LOADS_AGAIN if self._loads_again else "",
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


#: A proof is not sent: it needs a sender, a receiver and a Message-ID, but nobody's.
_SENDER = Address("sender@example.com")
_RECEIVER = Address("recipient@example.com")
_TOKEN = "0" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Templates by their common name, and what they are given."""

    name: str
    context: Path | None
    locale: str | None
    inline: Sequence[Path]

    def files(self) -> tuple[Path, ...]:
        """Return the files and folders that the proof is made of."""
        context = () if self.context is None else (self.context,)
        return (*Settings.load().templates, *context, *self.inline)


@contextmanager
def of_stored(message_id: int, to: str | None) -> Iterator[RenderedCopy]:
    """Yield the copy of ``to``, or of the first recipient.

    Raises:
        CommandError: there is no such message, or no such recipient of it.
    """
    with open_outbox() as context, context.reading() as connection:
        ours = tables(context.settings.database_schema)
        proof = rendered_copy(
            connection,
            ours,
            message_id,
            partial(attachments.read_blob, context.engine, ours),
            None if to is None else Address(to),
        )
        if proof is None:
            raise not_found(message_id, to)
        yield proof


@contextmanager
def of_templates(sample: Sample, to: str | None) -> Iterator[RenderedCopy]:
    """Yield what the templates make, with the settings' folders; no database is used.

    Raises:
        TemplateError: a template is missing or fails; the text names file and line.
    """
    settings = Settings.load()
    message = templated(sample.name, context_of(sample.context), sample.locale)
    occasion = EnqueueContext(
        sender=Address(settings.sender) if settings.sender else _SENDER,
        templates=Templates.of(settings.templates, inline_css=settings.inline_css),
        message_id_seed=_TOKEN,
        date=datetime.now(UTC),
    )
    pictures = [Attachment.inline(path) for path in sample.inline]
    with spool(pictures, settings.max_message_bytes) as files:
        parts = [file.part for file in files]
        draft = make_draft(message, occasion, parts=parts, has_variables=False)
        yield RenderedCopy(
            draft=draft,
            to=_RECEIVER if to is None else Address(to),
            message_id=message_id_for(draft.message_id_seed, None, draft.sender),
        )


#: Quick enough for a person who has just saved a file.
_LOOK_EVERY_S = 0.3


def at_each_change(places: Iterable[Path], show: Callable[[], None]) -> None:
    """Call ``show`` now and at each change below ``places``, until Ctrl-C.

    What is wrong with a file is told, and the next change awaited.
    """
    watched = tuple(places)
    seen: Mapping[Path, int] | None = None
    while True:
        found = _changes(watched)
        if found != seen:
            seen = found
            _show_safely(show)
        time.sleep(_LOOK_EVERY_S)


def _show_safely(show: Callable[[], None]) -> None:
    try:
        show()
    except (PostroomError, OSError) as error:
        print_error(describe(error).text)


def _changes(places: Iterable[Path]) -> dict[Path, int]:
    return dict(_times(file) for place in places for file in _files(place))


def _times(file: Path) -> tuple[Path, int]:
    try:
        return file, file.stat().st_mtime_ns
    except FileNotFoundError:  # an editor is replacing it
        return file, 0


def _files(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    for folder, _, names in os.walk(place):
        yield from (Path(folder, name) for name in names)


_STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a proof is looked at: in a file, as HTML, in a browser, or else as text."""

    out: Path | None
    html: bool
    browser: Browser | None

    def show(self, proof: RenderedCopy) -> None:
        """Show it."""
        if self.out is not None:
            _write(proof, self.out)
        elif self.browser is not None:
            self.browser.show(str(proof.draft.subject), _self_contained(proof))
        elif self.html:
            write_text(_html_of(proof) + "\n")
        else:
            _print(proof)


def preview(
    what: Annotated[
        str, typer.Argument(metavar="ID|NAME", help="A stored message, or the name of templates.")
    ],
    context: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON file for the templates.")
    ] = None,
    locale: Annotated[str | None, typer.Option(help="The templates' language.")] = None,
    inline: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An image that the HTML shows.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Whose copy; else the first one's.")
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
        bool, typer.Option("--watch", help="Show it again when a file of it changes.")
    ] = False,
) -> None:
    """Show a message without sending it: its text, its HTML, or its exact bytes."""
    browser = Browser(loads_again=watch) if in_browser else None
    view = View(out=out, html=html, browser=browser)
    if what.isdecimal():
        if watch:
            raise typer.BadParameter("a stored message never changes: leave out --watch")
        with of_stored(int(what), to) as proof:
            view.show(proof)
        return
    sample = Sample(name=what, context=context, locale=locale, inline=inline or ())
    if watch:
        at_each_change(sample.files(), partial(_show, view, sample, to))
    _show(view, sample, to)


def _show(view: View, sample: Sample, to: str | None) -> None:
    with of_templates(sample, to) as proof:
        view.show(proof)


def _write(proof: RenderedCopy, out: Path) -> None:
    if out == _STANDARD_OUTPUT:
        write_bytes(proof.chunks())
        return
    with open(out, "wb", opener=_privately) as file:
        file.writelines(proof.chunks())
    echo(f"{out} written, {out.stat().st_size:,} bytes")


def _privately(path: str, flags: int) -> int:
    """Open a file; one that is made now is for its owner alone."""
    return os.open(path, flags, 0o600)


def _html_of(proof: RenderedCopy) -> str:
    html = proof.draft.html
    if html is None:
        raise CommandError("the message has no HTML: leave out --html or --open", ExitCode.USAGE)
    return str(html)


def _self_contained(proof: RenderedCopy) -> str:
    """Return the HTML with its inline images inside, for a browser that knows no ``cid:``."""
    page = _html_of(proof)
    for part in proof.draft.attachments:
        if part.content_id is not None:
            page = page.replace(f"cid:{part.content_id}", _data_url(part))
    return page


def _data_url(part: StoredAttachment) -> str:
    encoded = base64.b64encode(b"".join(part.open())).decode("ascii")
    return f"data:{part.content_type};base64,{encoded}"


def _print(proof: RenderedCopy) -> None:
    draft = proof.draft
    attachments = (f"{part.filename} ({part.size_bytes:,} bytes)" for part in draft.attachments)
    head = {
        "from": draft.sender,
        "to": proof.to or ", ".join(map(str, draft.to)),
        "cc": ", ".join(map(str, draft.cc)),
        "subject": draft.subject,
        "attached": ", ".join(attachments),
        "message-id": proof.message_id,
    }
    echo(pairs(head))
    echo()
    echo(str(draft.text if draft.text is not None else draft.html or ""))
