"""What stands in the outbox because of a test, and assertions about it that read well."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias, overload

from postroom.testing.enqueued_mail import EnqueuedMail
from postroom.testing.received_mail import ParsedMail
from postroom.testing.recorder import EnqueueRecorder
from postroom.text import and_more

#: A text, or a pattern that is searched for.
Expected: TypeAlias = str | re.Pattern[str]

#: So much of a body is shown.
_SHOWN_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Whom a mail is for and what is in it; None where it does not matter.

    ``subject``, ``sender``, ``key`` and ``tag`` are compared whole, ``text`` and ``html`` are
    looked for in the body; a pattern is searched for everywhere. ``attachment`` is a file name.
    """

    to: str | None = None
    subject: Expected | None = None
    text: Expected | None = None
    html: Expected | None = None
    attachment: str | None = None
    sender: Expected | None = None
    idempotency_key: Expected | None = None
    tag: str | None = None

    def __str__(self) -> str:
        """Say it in words."""
        given = ((one.name, getattr(self, one.name)) for one in fields(self) if one.name != "to")
        said = [f"{name} {_shown(wanted)}" for name, wanted in given if wanted is not None]
        whom = "" if self.to is None else f" to {self.to}"
        return f"a mail{whom}" + (f" with {', '.join(said)}" if said else "")

    def differences(self, mail: EnqueuedMail) -> list[str]:
        """Return how ``mail`` differs, a few lines for each thing; nothing where it fits."""
        return list(self._differences(mail))

    def _differences(self, mail: EnqueuedMail) -> Iterator[str]:
        if self.to is not None and not mail.is_for(self.to):
            yield f"it is for {', '.join(mail.recipients)}"
            copy = mail.copy_for(mail.recipients[0])
        else:
            copy = mail.copy_for(self.to or mail.recipients[0])
        yield from _whole("sender", self.sender, mail.sender)
        yield from _whole("idempotency_key", self.idempotency_key, mail.idempotency_key or "")
        if self.tag is not None and self.tag not in mail.tags:
            yield f"its tags are {', '.join(mail.tags) or 'none'}"
        yield from self._content(copy)

    def _content(self, copy: ParsedMail) -> Iterator[str]:
        yield from _whole("subject", self.subject, copy.subject)
        yield from _within("text", self.text, copy.text)
        yield from _within("html", self.html, copy.html)
        names = [one.filename for one in copy.attachments]
        if self.attachment is not None and self.attachment not in names:
            yield f"its attachments are {', '.join(names) or 'none'}"


def _shown(wanted: Expected) -> str:
    return f"/{wanted.pattern}/" if isinstance(wanted, re.Pattern) else repr(wanted)


def _whole(what: str, wanted: Expected | None, got: str) -> Iterator[str]:
    if isinstance(wanted, re.Pattern):
        if not wanted.search(got):
            yield f"its {what} is {got!r}"
    elif wanted is not None and wanted != got:
        lines = difflib.ndiff([wanted], [got])
        yield "\n".join([f"its {what} differs:", *(line.rstrip("\n") for line in lines)])


def _within(what: str, wanted: Expected | None, got: str) -> Iterator[str]:
    if wanted is None:
        return
    is_pattern = isinstance(wanted, re.Pattern)
    found = wanted.search(got) is not None if isinstance(wanted, re.Pattern) else wanted in got
    if found:
        return
    if not is_pattern and "\n" in str(wanted):
        lines = difflib.ndiff(str(wanted).splitlines(), got.splitlines())
        yield "\n".join([f"its {what} differs:", *(line.rstrip("\n") for line in lines)])
        return
    shown = got[:_SHOWN_CHARACTERS] + ("…" if len(got) > _SHOWN_CHARACTERS else "")
    yield f"its {what} does not contain it:\n{shown.rstrip()}" if got else f"it has no {what}"


_MOST_SHOWN = 5


class OutboxMail(Sequence[EnqueuedMail]):
    """The mails enqueued since the test began, oldest first, without what was rolled back.

    It is always up to date. Whatever is looked at counts as asserted.
    """

    def __init__(self, recording: EnqueueRecorder) -> None:
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
        idempotency_key: Expected | None = None,
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
            idempotency_key=idempotency_key,
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

    def unasserted(self, after: int) -> list[EnqueuedMail]:
        """Return what nobody has looked at, of all that came after the first ``after``."""
        mails = (one.mail for one in self.recording.since(after))
        return [mail for mail in mails if mail not in self._seen]

    def _mails(self) -> list[EnqueuedMail]:
        return [one.mail for one in self.recording.standing]


def _listed(mails: Sequence[EnqueuedMail]) -> str:
    if not mails:
        return "none"
    shown = [repr(mail) for mail in mails[:_MOST_SHOWN]]
    named = and_more(shown, _MOST_SHOWN, count=len(mails), separator="\n  ")
    return f"{len(mails)}:\n  {named}"


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
