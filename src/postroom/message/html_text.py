"""HTML for mail: style sheets written into its elements, and its text for the plain text part.

Nothing is ever loaded from the network.
"""

from __future__ import annotations

import turbohtml
from turbohtml import Element, PlainText

from postroom.errors import ConfigError, TemplateError


def inline_css(html: str) -> str:
    """Return ``html`` with its ``<style>`` rules as ``style=`` attributes (extra ``css``).

    Rules that cannot be inlined (``@media``, ``@font-face``) stay in a ``<style>``. Linked style
    sheets are left as they are.

    Args:
        html: The HTML.

    Raises:
        ConfigError: css-inline is not installed.
        TemplateError: The style rules cannot be read.
    """
    try:
        import css_inline  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ConfigError(
            "inline_css needs the css extra; run: pip install 'postroom[css]'"
        ) from error
    try:
        return css_inline.inline(
            html, keep_at_rules=True, keep_link_tags=True, load_remote_stylesheets=False
        )
    except css_inline.InlineError as error:
        raise TemplateError(f"the style rules cannot be read: {error}") from error


#: Lines are not wrapped: the composer encodes long ones, and mail readers wrap them.
_STYLE = PlainText(links="inline", images=True)

#: Mostly preview texts and their padding, which are meant for the list of mails.
_HIDDEN = '[hidden], [style*="display:none" i], [style*="display: none" i]'

#: The structure of a table; the parser guarantees where they may occur.
_TABLE_PARTS = frozenset({"caption", "thead", "tbody", "tfoot", "tr", "th", "td"})

#: Gmail cuts HTML at about 100 KB. Nobody reads a longer text, and converting it would hold up
#: other mail.
MAX_HTML_CHARACTERS = 2_000_000
MAX_TEXT_CHARACTERS = 1_000_000
CUT = "[The text was cut here: the whole message is in its HTML.]"

#: Every cell of a column is padded to the widest one. If the tables would grow beyond this many
#: characters and this many times the HTML, they are converted to blocks.
_MAX_PADDED = 64 * 1024
_MAX_GROWTH = 4

#: A link whose text is its address without one of these needs no address behind it.
_SCHEMES = ("", "mailto:", "tel:", "https://", "http://")


def html_to_text(html: str) -> str:
    """Return the text of ``html``, with paragraphs, lists, tables and links.

    A link becomes its text and address, ``Track it (https://shop.example/t)``; an image becomes its
    ``alt`` text. A table that is only used for the layout becomes the blocks in its cells, and so
    does one whose columns would be padded to a multiple of the HTML. Lines end in LF.

    The text has at most a million characters; if more is cut off, the last line says so.

    Args:
        html: The HTML; only its first two million characters are read.
    """
    document = turbohtml.parse(html[:MAX_HTML_CHARACTERS])
    for hidden in document.select(_HIDDEN):
        hidden.decompose()
    available = max(_MAX_PADDED, _MAX_GROWTH * len(html))
    for table in document.select("table"):
        padded = 0 if _is_layout(table) else _padded_size(table)
        if 0 < padded <= available:
            available -= padded
        else:
            table.tag = "div"
            _convert_to_blocks(table)
    for link in document.select("a[href]"):
        if _needs_no_address(link):
            del link.attrs["href"]
    lines = document.to_text(_STYLE).split("\n")
    text = "\n".join(line.rstrip() for line in lines).strip("\n")
    if len(html) <= MAX_HTML_CHARACTERS and len(text) <= MAX_TEXT_CHARACTERS:
        return text
    kept = text[:MAX_TEXT_CHARACTERS].rpartition("\n")[0] or text[:MAX_TEXT_CHARACTERS]
    return f"{kept}\n\n{CUT}"


def _padded_size(table: Element) -> int:
    """Return an upper bound for the characters of ``table`` with all columns padded."""
    elements = len(table.select("*"))
    if not table.select("[alt], [href]"):  # most tables are small: a quick bound
        bound = elements * (len(table.text) + 4 * elements)
        if bound <= _MAX_PADDED // 4:
            return bound
    widths: dict[int, int] = {}
    lines = 0
    for row in table.select("tr"):
        height = 1
        cells = [cell for cell in row.children if isinstance(cell, Element)]
        for column, cell in enumerate(cells):
            visible, elements = _visible_text(cell), len(cell.select("*"))
            # Lists in a cell are indented.
            widths[column] = max(widths.get(column, 0), len(visible) + 4 * elements)
            height = max(height, 1 + visible.count("\n") + elements)
        lines += height
    return max(
        1, lines * sum(width + len(_STYLE.table_cell_separator) for width in widths.values())
    )


def _visible_text(cell: Element) -> str:
    """Return the text of a cell, with the texts of its images and links."""
    attributes = (
        str(element.attrs[name]) for name in ("alt", "href") for element in cell.select(f"[{name}]")
    )
    return cell.text + "".join(attributes)


def _is_layout(table: Element) -> bool:
    """Return whether the table says so, contains another one, or has a single column."""
    return (
        table.attrs.get("role") in {"presentation", "none"}
        or table.select_one("table") is not None
        or table.select_one("td + td, td + th, th + td, th + th") is None
    )


def _convert_to_blocks(element: Element) -> None:
    for child in element.children:
        if isinstance(child, Element) and child.tag in _TABLE_PARTS:
            child.tag = "div"
            _convert_to_blocks(child)


def _needs_no_address(link: Element) -> bool:
    """Return whether the link leads nowhere, or its text is its address."""
    target = str(link.attrs["href"]).strip()
    if target.startswith("#") or target.lower().startswith("javascript:"):
        return True
    shown = link.text.strip().rstrip("/")
    return any(target.removeprefix(scheme).rstrip("/") == shown for scheme in _SCHEMES)
