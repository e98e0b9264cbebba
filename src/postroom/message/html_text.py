"""A text part for a message that has only HTML: what a reader of plain text needs of it."""

from __future__ import annotations

import turbohtml
from turbohtml import Element, PlainText

from postroom.errors import ConfigError, TemplateError


def inline_css(html: str) -> str:
    """Return ``html`` with its ``<style>`` rules as ``style=`` attributes (extra ``css``).

    What cannot be inlined (``@media``, ``@font-face``) stays in a ``<style>``. Nothing is ever
    loaded: style sheets that are only linked to are left as they are.

    Raises:
        ConfigError: css-inline is not installed.
        TemplateError: the style rules cannot be read.
    """
    try:
        import css_inline  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ConfigError(
            "expected css-inline to be installed for inline_css, got: no such package; install "
            "postroom[css]"
        ) from error
    try:
        return css_inline.inline(
            html, keep_at_rules=True, keep_link_tags=True, load_remote_stylesheets=False
        )
    except css_inline.InlineError as error:
        raise TemplateError(f"expected style rules that can be inlined, got: {error}") from error


#: Lines are left as long as they are: the composer folds them where the standard asks for it,
#: and readers wrap them to their window.
_STYLE = PlainText(links="inline", images=True)

#: Preview texts, mostly, and their padding: meant for the list of mails, not for reading.
_HIDDEN = '[hidden], [style*="display:none" i], [style*="display: none" i]'

#: A table's own structure. What it holds, and where, is the parser's to guarantee.
_TABLE_PARTS = frozenset({"caption", "thead", "tbody", "tfoot", "tr", "th", "td"})

#: A mail reader cuts HTML off at 100 KB. Beyond these, a text would be read by nobody, and would
#: hold up the mail behind it.
MAX_HTML_CHARACTERS = 2_000_000
MAX_TEXT_CHARACTERS = 1_000_000
CUT = "[The text was cut here: the whole message is in its HTML.]"

#: Every cell of a column is padded to the widest one. A table that would grow beyond this, and
#: beyond so many times its HTML, is read as blocks.
_MOST_PADDED = 64 * 1024
_MOST_TIMES = 4

#: What the text of a link need not repeat to say where it leads.
_SCHEMES = ("", "mailto:", "tel:", "https://", "http://")


def html_to_text(html: str) -> str:
    """Return the text of ``html``: blocks apart, lists and tables laid out, links kept.

    A table that only places things, as mails are built of, is read as the blocks in its cells.

    A link is its text with the address behind it, ``Track it (https://shop.example/t)``; an
    image is its ``alt`` text. Lines end in LF.

    The text has at most a million characters; what is cut off is replaced by a line that says so.
    Tables whose columns would be padded to a multiple of the HTML are read as blocks too.
    """
    document = turbohtml.parse(html[:MAX_HTML_CHARACTERS])
    for hidden in document.select(_HIDDEN):
        hidden.decompose()
    room = max(_MOST_PADDED, _MOST_TIMES * len(html))
    for table in document.select("table"):
        padded = 0 if _is_layout(table) else _padded_size(table)
        if 0 < padded <= room:
            room -= padded
        else:
            table.tag = "div"
            _read_as_blocks(table)
    for link in document.select("a[href]"):
        if _needs_no_address(link):
            del link.attrs["href"]
    lines = document.to_text(_STYLE).split("\n")
    text = "\n".join(line.rstrip() for line in lines).strip("\n")
    if len(html) <= MAX_HTML_CHARACTERS and len(text) <= MAX_TEXT_CHARACTERS:
        return text
    whole = text[:MAX_TEXT_CHARACTERS].rpartition("\n")[0] or text[:MAX_TEXT_CHARACTERS]
    return f"{whole}\n\n{CUT}"


def _padded_size(table: Element) -> int:
    """Return at least how many characters ``table`` has with all of its columns padded."""
    elements = len(table.select("*"))
    if not table.select("[alt], [href]"):  # most tables are small, and this is soon known
        most = elements * (len(table.text) + 4 * elements)
        if most <= _MOST_PADDED // 4:
            return most
    widths: dict[int, int] = {}
    lines = 0
    for row in table.select("tr"):
        height = 1
        cells = [cell for cell in row.children if isinstance(cell, Element)]
        for column, cell in enumerate(cells):
            written, elements = _written(cell), len(cell.select("*"))
            # Lists in a cell are indented.
            widths[column] = max(widths.get(column, 0), len(written) + 4 * elements)
            height = max(height, 1 + written.count("\n") + elements)
        lines += height
    return max(
        1, lines * sum(width + len(_STYLE.table_cell_separator) for width in widths.values())
    )


def _written(cell: Element) -> str:
    """Return at least what a cell shows: its text, and what its images and links are called."""
    named = (
        str(element.attrs[name]) for name in ("alt", "href") for element in cell.select(f"[{name}]")
    )
    return cell.text + "".join(named)


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
