"""A text part from HTML."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.message.html_text import CUT, html_to_text

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
    assert html_to_text(MAIL) == TEXT


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
    assert html_to_text(LAYOUT) == LAID_OUT


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
    assert html_to_text(html) == text


@given(st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="<>&"), min_size=1))
def test_words_are_not_lost(word: str) -> None:
    assert word in html_to_text(f"<table><tr><td><p>{word}</p></td></tr></table>")


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_anything_can_be_read(html: str) -> None:
    html_to_text(html).encode()


PIECES = (
    *("<p>", "</p>", "<table>", "<td>", "</table>", "<a href=x>", "<a>", "<ul>", "<li>", "<br>"),
    *("<pre>", "<!--", "-->", "<svg>", "<div hidden>", "</div>", "<template>", "&amp;", "&#0;"),
    *("x", "<", ">"),
)


@given(st.lists(st.sampled_from(PIECES)))
def test_tags_in_any_order_can_be_read(pieces: list[str]) -> None:
    assert "\0" not in html_to_text("".join(pieces))


ROWS = "<tr><td>a<td>b" * 3000
WIDE = "<table><tr><td>" + "y" * 3000 + "<td>b" + ROWS + "</table>"


def test_a_table_that_padding_would_blow_up_is_read_as_blocks() -> None:
    text = html_to_text(f"<p>Before</p>{WIDE}<p>After</p>")

    assert text.startswith("Before\n\n" + "y" * 3000 + "\n\nb\n\na\n\nb")
    assert text.endswith("After")
    assert len(text) < len(WIDE)


def test_many_tables_share_what_padding_may_take() -> None:
    one = "<table><tr><td>" + "y" * 99 + "<td>b" + "<tr><td>a<td>b" * 30 + "</table>"

    assert len(html_to_text(one * 60)) < 5 * len(one * 60)


def test_a_row_of_many_lines_is_not_padded_beyond_bounds_either() -> None:
    html = "<table><tr><td>" + "y" * 9000 + "<td>" + "a<br>" * 9000 + "</table>"

    assert len(html_to_text(html)) < len(html)


def test_a_text_that_nobody_would_read_is_cut_with_a_line_that_says_so() -> None:
    text = html_to_text("<p>Hello there</p>" * 90_000)

    assert text.startswith("Hello there\n\nHello")
    assert text.endswith(f"\n\n{CUT}")
    assert 900_000 < len(text) < 1_000_100


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["<table>", "<tr>", "<td>", "<td><img alt=", "<ul><li>", "<br>"]),
            st.integers(1, 60),
            st.sampled_from(["", "y" * 700, "a", "z z\n", "><pre>\n"]),
        ),
        max_size=8,
    ),
    st.integers(1, 12),
)
def test_no_nesting_of_tables_blows_a_text_up(
    pieces: list[tuple[str, int, str]], times: int
) -> None:
    html = "".join((tag + content) * number for tag, number, content in pieces) * times

    assert len(html_to_text(html)) <= 64 * 1024 + 8 * len(html)
