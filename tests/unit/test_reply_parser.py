"""Replies out of bytes, however they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.smtp.reply import Reply
from postroom.smtp.reply_parser import MAX_LINE_BYTES, MAX_LINES, MalformedReply, ReplyParser


def parse(received: bytes, *, each: int = 65_536) -> list[Reply]:
    """Feed ``received`` in pieces of ``each`` bytes; return every reply that came out."""
    parser = ReplyParser()
    replies = []
    for start in range(0, len(received), each):
        parser.feed(received[start : start + each])
        while (reply := parser.next()) is not None:
            replies.append(reply)
    return replies


def test_a_reply_of_one_line() -> None:
    assert parse(b"250 2.1.0 Ok\r\n") == [Reply(code=250, lines=("2.1.0 Ok",))]


def test_a_reply_of_several_lines() -> None:
    assert parse(b"250-relay\r\n250-SIZE 100\r\n250 DSN\r\n") == [
        Reply(code=250, lines=("relay", "SIZE 100", "DSN"))
    ]


def test_replies_that_come_together_are_told_apart() -> None:
    codes = [reply.code for reply in parse(b"250 a\r\n250-b\r\n250 c\r\n354 go\r\n550 no\r\n")]
    assert codes == [250, 250, 354, 550]


def test_a_code_alone_is_a_reply() -> None:
    assert parse(b"250\r\n") == [Reply(code=250, lines=("",))]


def test_a_line_may_end_with_lf_alone() -> None:
    assert parse(b"250-a\n250 b\n") == [Reply(code=250, lines=("a", "b"))]


def test_nothing_is_given_before_it_is_complete() -> None:
    parser = ReplyParser()
    for piece in (b"25", b"0-first\r", b"\n250 sec", b"ond\r"):
        parser.feed(piece)
        assert parser.next() is None
        assert not parser.is_empty
    parser.feed(b"\n")
    assert parser.next() == Reply(code=250, lines=("first", "second"))
    assert parser.is_empty


def test_what_comes_after_a_reply_is_not_empty() -> None:
    parser = ReplyParser()
    parser.feed(b"220 go ahead\r\n250 injected")
    assert parser.next() is not None
    assert not parser.is_empty


@pytest.mark.parametrize(
    "received",
    [
        b"hello\r\n",
        b"\r\n",
        b"25\r\n",
        b"250x\r\n",
        b"150 below 2xx\r\n",
        b"650 above 5xx\r\n",
        b"250-one code\r\n251 and another\r\n",
        b"250-a\r\nno code\r\n",
        "２５０ full-width digits\r\n".encode(),
        b"\x16\x03\x01\x02\x00\x01\x00\n",
    ],
)
def test_what_is_no_reply_is_refused(received: bytes) -> None:
    with pytest.raises(MalformedReply):
        parse(received)


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    parser = ReplyParser()
    parser.feed(b"250 " + b"x" * MAX_LINE_BYTES)
    with pytest.raises(MalformedReply, match=str(MAX_LINE_BYTES)):
        parser.next()


def test_a_line_that_is_too_long_is_refused_though_it_ends() -> None:
    with pytest.raises(MalformedReply, match=str(MAX_LINE_BYTES)):
        parse(b"250 " + b"x" * MAX_LINE_BYTES + b"\r\n")


def test_a_reply_of_endless_lines_is_refused() -> None:
    assert len(parse(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")[0].lines) == MAX_LINES
    with pytest.raises(MalformedReply, match=str(MAX_LINES)):
        parse(b"250-x\r\n" * MAX_LINES + b"250 x\r\n")


def test_text_is_fit_to_be_stored_and_printed() -> None:
    [reply] = parse(b"550 a\x00b\x1b[31mc\xff\xc2\x85d\r\n")
    assert reply.text == "a\ufffdb\ufffd[31mc\ufffd\ufffdd"
    assert reply.text.isprintable()


CODES = st.integers(200, 599)
TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60)
REPLIES = st.builds(
    lambda code, lines: Reply(code=code, lines=tuple(lines)),
    CODES,
    st.lists(TEXT, min_size=1, max_size=8),
)


def on_the_wire(reply: Reply) -> bytes:
    marks = ["-"] * (len(reply.lines) - 1) + [" "]
    lines = zip(marks, reply.lines, strict=True)
    return "".join(f"{reply.code}{mark}{line}\r\n" for mark, line in lines).encode()


@given(st.lists(REPLIES, max_size=6), st.integers(1, 50))
def test_replies_read_back_however_the_bytes_are_cut(replies: list[Reply], each: int) -> None:
    assert parse(b"".join(map(on_the_wire, replies)), each=each) == replies


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_give_replies_or_a_refusal_and_never_hold_back_a_line(
    received: bytes, each: int
) -> None:
    parser = ReplyParser()
    try:
        for start in range(0, len(received), each):
            parser.feed(received[start : start + each])
            while (reply := parser.next()) is not None:
                assert 200 <= reply.code < 600
                assert reply.text.isprintable()
    except MalformedReply:
        return
    assert parser.is_empty or not received.endswith(b"\n") or received.splitlines()[-1][3:4] == b"-"
