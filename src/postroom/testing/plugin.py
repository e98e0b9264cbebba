"""The parts of the pytest plugin that need the rest of Postroom: recording, and the strict mode."""

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
    """Record what is enqueued in the block; share a recording that already runs for ``item``."""
    known = item.stash.get(_MAIL, None)
    if known is not None:
        yield known
        return
    with tempfile.TemporaryDirectory(dir=_folder(item.config)) as folder:
        recorder = EnqueueRecorder(_folder(item.config) / "blank.sqlite", Path(folder))
        recorder.start()
        item.stash[_MAIL] = OutboxMail(recorder)
        try:
            yield item.stash[_MAIL]
        finally:
            del item.stash[_MAIL]
            recorder.stop()


def _folder(config: pytest.Config) -> Path:
    """Return the temporary folder of this run, with an empty outbox in it."""
    if _FOLDER not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="postroom-")
        config.add_cleanup(folder.cleanup)
        blank(Path(folder.name))
        config.stash[_FOLDER] = Path(folder.name)
    return config.stash[_FOLDER]


class StrictPlugin:
    """Fails a test that enqueues mail and does not look at it.

    Mail that fixtures enqueue before the test begins does not count.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Record from before the first fixture until after the last one."""
        with recording_for(item):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Check right after the test, before fixtures roll anything back."""
        mail = item.stash[_MAIL]
        before = mail.recorder.count
        result = yield
        unasserted = mail.unasserted(after=before)
        if unasserted:
            listed = "".join(f"\n  {one!r}" for one in unasserted)
            pytest.fail(
                f"the test did not look at the mail it enqueued: {listed}\n"
                "assert it with the fixture outbox_mail, or call outbox_mail.ignore()",
                pytrace=False,
            )
        return result
