"""A text part from HTML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.values.plain import from_html

MAIL = """<!doctype html>
<html><head><title>Order</title><style>p { color: red }</style><script>track()</script></head>
<body>
<div style="display: none; max-height: 0">Preview &zwnj;&nbsp;&zwnj;</div>
<h1>Order A-1001</h1>
<p>Hello <b>Zoë</b>, it ships <i>tomorrow</i>.<br>Thank you &amp; goodbye.</p>
<table><tr><th>Item</th><th>Pieces</th></tr><tr><td>Tea</td><td>2</td></tr></table>
<ul><li>One</li><li>Two</li></ul>
<p><a href="https://shop.example/t?a=1&amp;b=2">Track it</a></p>
</body></html>"""

TEXT = """Order A-1001

Hello Zoë, it ships tomorrow.
Thank you & goodbye.

Item  Pieces
Tea   2

* One
* Two

Track it (https://shop.example/t?a=1&b=2)"""


def test_a_mail_reads_well() -> None:
    assert from_html(MAIL) == TEXT


LAYOUT = """<table role="presentation"><tr><td>
<img src="cid:logo" alt="The shop"></td></tr><tr><td>
<h1>Thank you</h1>
<table><tr><th>Item</th><th>Pieces</th></tr><tr><td>Tea</td><td>2</td></tr></table>
<table role="presentation"><tr>
<td><p>One<br>column</p></td><td><p>and <b>another</b></p></td></tr></table>
<table><tr><td><a href="https://shop.example/t">Track it</a></td></tr></table>
</td></tr><tr><td>1 Market Street</td></tr></table>"""

LAID_OUT = """The shop

Thank you

Item  Pieces
Tea   2

One
column

and another

Track it (https://shop.example/t)

1 Market Street"""


def test_a_table_that_only_places_things_is_read_as_blocks() -> None:
    assert from_html(LAYOUT) == LAID_OUT


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<a href='https://shop.example/'>shop.example</a>", "shop.example"),
        ("<a href='https://shop.example'>https://shop.example</a>", "https://shop.example"),
        ("<a href='mailto:a@shop.example'>a@shop.example</a>", "a@shop.example"),
        ("<a href='mailto:a@shop.example'>Write</a>", "Write (mailto:a@shop.example)"),
        ("<a href='#top'>Up</a> <a href='javascript:x()'>Go</a> <a>No</a>", "Up Go No"),
        (
            "<a href='https://x.example'><img src='cid:1' alt='Shop'></a>",
            "Shop (https://x.example)",
        ),
        ("<p hidden>secret</p><p>shown</p>", "shown"),
        ("just text &lt; that", "just text < that"),
        ("", ""),
    ],
)
def test_links_are_kept_and_not_repeated(html: str, text: str) -> None:
    assert from_html(html) == text


@given(st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="<>&"), min_size=1))
def test_words_are_not_lost(word: str) -> None:
    assert word in from_html(f"<table><tr><td><p>{word}</p></td></tr></table>")


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_anything_can_be_read(html: str) -> None:
    from_html(html).encode()


PIECES = (
    *("<p>", "</p>", "<table>", "<td>", "</table>", "<a href=x>", "<a>", "<ul>", "<li>", "<br>"),
    *("<pre>", "<!--", "-->", "<svg>", "<div hidden>", "</div>", "<template>", "&amp;", "&#0;"),
    *("x", "<", ">"),
)


@given(st.lists(st.sampled_from(PIECES)))
def test_tags_in_any_order_can_be_read(pieces: list[str]) -> None:
    assert "\0" not in from_html("".join(pieces))
