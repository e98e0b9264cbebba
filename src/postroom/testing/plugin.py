"""Recording while a test runs, and judging a test that does not look at what it enqueues."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postroom.testing.outbox_copy import blank
from postroom.testing.outbox_mail import OutboxMail
from postroom.testing.recorder import EnqueueRecorder

_MAIL: pytest.StashKey[OutboxMail] = pytest.StashKey()
_FOLDER: pytest.StashKey[Path] = pytest.StashKey()


@contextmanager
def recording_for(item: pytest.Item) -> Iterator[OutboxMail]:
    """Record what is enqueued meanwhile; where somebody does already, that is shared."""
    known = item.stash.get(_MAIL, None)
    if known is not None:
        yield known
        return
    with tempfile.TemporaryDirectory(dir=_folder(item.config)) as folder:
        recording = EnqueueRecorder(_folder(item.config) / "blank.sqlite", Path(folder))
        recording.start()
        item.stash[_MAIL] = OutboxMail(recording)
        try:
            yield item.stash[_MAIL]
        finally:
            del item.stash[_MAIL]
            recording.stop()


def _folder(config: pytest.Config) -> Path:
    """Return a folder for this run, with an empty outbox in it."""
    if _FOLDER not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="postroom-")
        config.add_cleanup(folder.cleanup)
        blank(Path(folder.name))
        config.stash[_FOLDER] = Path(folder.name)
    return config.stash[_FOLDER]


class StrictPlugin:
    """Fails a test that enqueues mail while it runs, and never looks at it.

    What fixtures enqueue before the test is theirs.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Record from before the first fixture until after the last one."""
        with recording_for(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Judge before fixtures roll everything back."""
        mail = item.stash[_MAIL]
        before = mail.recording.count
        result = yield
        unseen = mail.unasserted(after=before)
        if unseen:
            listed = "".join(f"\n  {one!r}" for one in unseen)
            pytest.fail(
                f"expected a test to look at the mail it enqueues, got: {listed}\n"
                "assert it with the fixture outbox_mail, or say outbox_mail.ignore()",
                pytrace=False,
            )
        return result
