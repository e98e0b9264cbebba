"""A text part for a message that has only HTML: what a reader of plain text needs of it."""

from __future__ import annotations

import turbohtml
from turbohtml import Element, PlainText

#: Lines are left as long as they are: the composer folds them where the standard asks for it,
#: and readers wrap them to their window.
_STYLE = PlainText(links="inline", images=True)

#: Preview texts, mostly, and their padding: meant for the list of mails, not for reading.
_HIDDEN = '[hidden], [style*="display:none" i], [style*="display: none" i]'

#: A table's own structure. What it holds, and where, is the parser's to guarantee.
_TABLE_PARTS = frozenset({"caption", "thead", "tbody", "tfoot", "tr", "th", "td"})

#: What the text of a link need not repeat to say where it leads.
_SCHEMES = ("", "mailto:", "tel:", "https://", "http://")


def from_html(html: str) -> str:
    """Return the text of ``html``: blocks apart, lists and tables laid out, links kept.

    A table that only places things, as mails are built of, is read as the blocks in its cells.

    A link is its text with the address behind it, ``Track it (https://shop.example/t)``; an
    image is its ``alt`` text. Lines end in LF.
    """
    document = turbohtml.parse(html)
    for hidden in document.select(_HIDDEN):
        hidden.decompose()
    for table in filter(_is_layout, document.select("table")):
        table.tag = "div"
        _read_as_blocks(table)
    for link in document.select("a[href]"):
        if _needs_no_address(link):
            del link.attrs["href"]
    lines = document.to_text(_STYLE).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _is_layout(table: Element) -> bool:
    """Whether the table says so, holds another, or has a single column."""
    return (
        table.attrs.get("role") in {"presentation", "none"}
        or table.select_one("table") is not None
        or table.select_one("td + td, td + th, th + td, th + th") is None
    )


def _read_as_blocks(element: Element) -> None:
    for child in element.children:
        if isinstance(child, Element) and child.tag in _TABLE_PARTS:
            child.tag = "div"
            _read_as_blocks(child)


def _needs_no_address(link: Element) -> bool:
    """Whether the link leads nowhere, or where its text says."""
    target = str(link.attrs["href"]).strip()
    if target.startswith("#") or target.lower().startswith("javascript:"):
        return True
    shown = link.text.strip().rstrip("/")
    return any(target.removeprefix(scheme).rstrip("/") == shown for scheme in _SCHEMES)
