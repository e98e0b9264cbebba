"""What stands in the outbox because of a test, and assertions about it that read well."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import overload

from postroom.testing.enqueued import EnqueuedMail
from postroom.testing.expectation import Expectation, Expected
from postroom.testing.recording import Recording

_MOST_SHOWN = 5


class OutboxMail(Sequence[EnqueuedMail]):
    """The mails enqueued since the test began, oldest first, without what was rolled back.

    It is always up to date. Whatever is looked at counts as asserted.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._seen: set[EnqueuedMail] = set()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.recording.standing)

    @overload
    def __getitem__(self, index: int) -> EnqueuedMail: ...

    @overload
    def __getitem__(self, index: slice) -> list[EnqueuedMail]: ...

    def __getitem__(self, index: int | slice) -> EnqueuedMail | list[EnqueuedMail]:
        """Return one of them, or some."""
        found = self._mails()[index]
        self._seen.update(found if isinstance(found, list) else [found])
        return found

    def __iter__(self) -> Iterator[EnqueuedMail]:
        """Return each of them."""
        return iter(self[:])

    def __repr__(self) -> str:
        """Show them, as a failed assertion does."""
        return repr(self._mails())

    def to(self, address: str) -> list[EnqueuedMail]:
        """Return those that ``address`` gets."""
        return [mail for mail in self if mail.is_for(address)]

    def only(self) -> EnqueuedMail:
        """Return the one mail there is.

        Raises:
            AssertionError: there is none, or more than one.
        """
        __tracebackhide__ = True
        mails = self._mails()
        if len(mails) != 1:
            raise AssertionError(f"expected one mail, got: {_listed(mails)}")
        return self[0]

    def assert_enqueued(
        self,
        *,
        to: str | None = None,
        subject: Expected | None = None,
        text: Expected | None = None,
        html: Expected | None = None,
        attachment: str | None = None,
        sender: Expected | None = None,
        key: Expected | None = None,
        tag: str | None = None,
    ) -> EnqueuedMail:
        """Assert that one mail is as described, and return it, the last where several are.

        ``subject``, ``sender``, ``key`` and ``tag`` are compared whole; ``text`` and ``html`` have
        to occur in the body; a compiled pattern is searched for. ``attachment`` is a file name.

        Raises:
            AssertionError: there is none; it shows how those there are differ.
        """
        __tracebackhide__ = True
        wanted = Expectation(
            to=to,
            subject=subject,
            text=text,
            html=html,
            attachment=attachment,
            sender=sender,
            key=key,
            tag=tag,
        )
        mails = self._mails()
        fitting = [mail for mail in mails if not wanted.differences(mail)]
        if not fitting:
            raise AssertionError(_missing(wanted, mails))
        self._seen.update(fitting)
        return fitting[-1]

    def assert_nothing(self, *, to: str | None = None) -> None:
        """Assert that no mail was enqueued, or none to an address.

        Raises:
            AssertionError: there is some; it is listed.
        """
        __tracebackhide__ = True
        mails = [mail for mail in self._mails() if to is None or mail.is_for(to)]
        if mails:
            whom = "" if to is None else f" to {to}"
            raise AssertionError(f"expected no mail{whom}, got: {_listed(mails)}")

    def ignore(self) -> None:
        """Say that the mail so far is none of this test's business."""
        self._seen.update(self._mails())

    def unseen(self, after: int) -> list[EnqueuedMail]:
        """Return what nobody has looked at, of all that came after the first ``after``."""
        mails = (one.mail for one in self.recording.since(after))
        return [mail for mail in mails if mail not in self._seen]

    def _mails(self) -> list[EnqueuedMail]:
        return [one.mail for one in self.recording.standing]


def _listed(mails: Sequence[EnqueuedMail]) -> str:
    if not mails:
        return "none"
    shown = [f"\n  {mail!r}" for mail in mails[:_MOST_SHOWN]]
    left = len(mails) - len(shown)
    return f"{len(mails)}:" + "".join(shown) + (f"\n  and {left} more" if left else "")


def _missing(wanted: Expectation, mails: Sequence[EnqueuedMail]) -> str:
    """Say how each mail differs, the nearest first."""
    if not mails:
        return f"expected {wanted}, got: no mail at all"
    differences = sorted(
        ((mail, wanted.differences(mail)) for mail in mails), key=lambda pair: len(pair[1])
    )
    lines = [f"expected {wanted}, got {len(mails)} that differ:"]
    for mail, found in differences[:_MOST_SHOWN]:
        lines.append(repr(mail))
        lines += [textwrap.indent(one, "  ") for one in found]
    return "\n".join(lines)
