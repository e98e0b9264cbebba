"""``preview``: a message as its recipient will see it, and as it goes over the wire."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from postroom.cli.browser import Browser
from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.output import pairs, say, write_bytes, write_text
from postroom.cli.proofing import Sample, of_stored, of_templates
from postroom.cli.watching import at_each_change
from postroom.storage.proofs import Proof
from postroom.values.message import Part

_STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a proof is looked at: in a file, as HTML, in a browser, or else as text."""

    out: Path | None
    html: bool
    browser: Browser | None

    def show(self, proof: Proof) -> None:
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


def _write(proof: Proof, out: Path) -> None:
    if out == _STANDARD_OUTPUT:
        write_bytes(proof.chunks())
        return
    with open(out, "wb", opener=_privately) as file:
        file.writelines(proof.chunks())
    say(f"{out} written, {out.stat().st_size:,} bytes")


def _privately(path: str, flags: int) -> int:
    """Open a file; one that is made now is for its owner alone."""
    return os.open(path, flags, 0o600)


def _html_of(proof: Proof) -> str:
    html = proof.draft.html
    if html is None:
        raise CommandError("the message has no HTML: leave out --html or --open", ExitCode.USAGE)
    return str(html)


def _self_contained(proof: Proof) -> str:
    """Return the HTML with its inline images inside, for a browser that knows no ``cid:``."""
    page = _html_of(proof)
    for part in proof.draft.attachments:
        if part.content_id is not None:
            page = page.replace(f"cid:{part.content_id}", _data_url(part))
    return page


def _data_url(part: Part) -> str:
    encoded = base64.b64encode(b"".join(part.open())).decode("ascii")
    return f"data:{part.content_type};base64,{encoded}"


def _print(proof: Proof) -> None:
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
    say(pairs(head))
    say()
    say(str(draft.text if draft.text is not None else draft.html or ""))
