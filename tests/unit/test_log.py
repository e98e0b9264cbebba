"""Our log lines in an application whose logging goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import postroom
from postroom import log as log_module
from postroom.log import Log


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The record factory is afterwards as it was, and nothing has been said yet."""
    monkeypatch.setattr(log_module, "_REPORTED", [])
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)


def test_a_field_that_the_application_sets_as_well_is_no_conflict(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ordinary = logging.getLogRecordFactory()

    def with_message_id(*args: object, **options: object) -> logging.LogRecord:
        record = ordinary(*args, **options)
        record.message_id = "theirs"
        return record

    logging.setLogRecordFactory(with_message_id)
    Log("postroom.test").error("rejected %s", "ada", extra={"message_id": 7, "name": "x"})
    [record] = caplog.records
    assert record.getMessage() == "rejected ada"
    assert (vars(record)["message_id"], vars(record)["postroom_message_id"]) == ("theirs", 7)


def test_a_factory_that_raises_is_said_once_on_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*args: object, **options: object) -> logging.LogRecord:
        raise ValueError("no request is being served")

    logging.setLogRecordFactory(fail)
    log = Log("postroom.test")
    log.error("one")
    log.warning("another")
    said = capsys.readouterr().err
    assert said.count("the application's logging failed") == 1
    assert "ValueError: no request is being served" in said


def test_a_filter_that_raises_loses_its_line_and_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(record: logging.LogRecord) -> bool:
        raise LookupError("user")

    logger = logging.getLogger("postroom.test")
    logger.addFilter(fail)
    Log("postroom.test").error("lost")
    logger.removeFilter(fail)
    Log("postroom.test").error("found")
    assert caplog.messages == ["found"]


def test_a_line_names_the_place_that_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    Log("postroom.test").error("here")
    [record] = caplog.records
    assert record.filename == "test_log.py"
    assert record.funcName == "test_a_line_names_the_place_that_logged_it"


def test_an_exception_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError:
        Log("postroom.test").exception("broke")
    assert "ZeroDivisionError: by nothing" in caplog.text


def test_what_is_below_the_level_costs_no_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "postroom.test")
    log = Log("postroom.test")
    log.info("quiet")
    assert (log.isEnabledFor(logging.INFO), caplog.messages) == (False, [])


def test_every_log_line_of_a_worker_is_a_guarded_one() -> None:
    source = Path(postroom.__file__).parent
    plain = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if "logging.getLogger" in path.read_text(encoding="utf-8")
    }
    # The command's own set-up, and migrations, which no worker runs.
    assert plain == {"log.py", "cli/logs.py", "storage/migrations/__init__.py"}
