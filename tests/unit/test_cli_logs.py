"""One line an event; whatever a relay says stays on that line and reads back as it was."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.cli import logs
from postroom.config.settings import LogFormat, LogLevel


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """The logger of the library is afterwards as it was."""
    logger = logging.getLogger("postroom")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], level, logger.propagate = before
    logger.setLevel(level)


def logged(log_format: LogFormat, text: str, **extra: Any) -> str:
    stream = io.StringIO()
    logs.configure(log_format, LogLevel.INFO, stream)
    logging.getLogger("postroom.delivery").info(text, extra=extra)
    return stream.getvalue()


def test_text_names_the_mail_an_event_belongs_to() -> None:
    line = logged(LogFormat.TEXT, "accepted", message_id=7, recipient="a@b.example", code=250)
    assert line.endswith("Z info accepted message_id=7 recipient=a@b.example code=250\n")


def test_json_holds_the_same_fields() -> None:
    found = json.loads(logged(LogFormat.JSON, "rejected", message_id=7, reply="5.1.1 nobody"))
    assert found["event"] == "rejected"
    assert found["level"] == "info"
    assert found["logger"] == "postroom.delivery"
    assert (found["message_id"], found["reply"]) == (7, "5.1.1 nobody")
    assert found["time"].endswith("Z")


def test_what_is_below_the_level_is_left_out() -> None:
    stream = io.StringIO()
    logs.configure(LogFormat.TEXT, LogLevel.WARNING, stream)
    logging.getLogger("postroom.smtp").info("quiet")
    assert stream.getvalue() == ""


def test_a_traceback_follows_its_line() -> None:
    stream = io.StringIO()
    logs.configure(LogFormat.JSON, LogLevel.INFO, stream)
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError:
        logging.getLogger("postroom").exception("broke")
    found = json.loads(stream.getvalue())
    assert "ZeroDivisionError: by nothing" in found["traceback"]


@given(st.text())
def test_any_reply_stays_on_one_line_of_text(reply: str) -> None:
    line = logged(LogFormat.TEXT, "deferred", reply=reply)
    assert len(line.splitlines()) == 1
    assert line.rstrip("\n").isprintable()


@given(st.text(st.characters(categories=["L", "N", "P", "Z"])))
def test_a_quoted_reply_reads_back(reply: str) -> None:
    line = logged(LogFormat.TEXT, "deferred", reply=reply)
    quoted = line.rstrip("\n").partition("reply=")[2]
    read = json.loads(quoted) if quoted.startswith('"') else quoted
    assert read == reply


@given(st.text())
def test_any_reply_stays_on_one_line_of_json(reply: str) -> None:
    line = logged(LogFormat.JSON, "deferred", reply=reply)
    assert line.count("\n") == 1
    assert json.loads(line)["reply"] == reply
