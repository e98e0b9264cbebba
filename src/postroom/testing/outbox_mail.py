"""The mail that a test has enqueued, and assertions about it whose failures say what differs."""

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

#: How much of a body a failure shows.
_SHOWN_CHARACTERS = 1_000

_MOST_SHOWN = 5


class OutboxMail(Sequence[EnqueuedMail]):
    """The mails enqueued since the test began, oldest first, without what was rolled back.

    It is always up to date. Mail that the test looks at counts as asserted.
    """

    def __init__(self, recorder: EnqueueRecorder) -> None:
        self.recorder = recorder
        self._seen: set[EnqueuedMail] = set()

    def __len__(self) -> int:
        """Return how many mails there are."""
        return len(self.recorder.current)

    @overload
    def __getitem__(self, index: int) -> EnqueuedMail: ...

    @overload
    def __getitem__(self, index: slice) -> list[EnqueuedMail]: ...

    def __getitem__(self, index: int | slice) -> EnqueuedMail | list[EnqueuedMail]:
        """Return one mail, or a list for a slice."""
        found = self._mails()[index]
        self._seen.update(found if isinstance(found, list) else [found])
        return found

    def __iter__(self) -> Iterator[EnqueuedMail]:
        """Iterate over the mails."""
        return iter(self[:])

    def __repr__(self) -> str:
        """Show the mails, as a failed assertion does."""
        return repr(self._mails())

    def to(self, address: str) -> list[EnqueuedMail]:
        """Return the mails for ``address``, in any spelling."""
        return [mail for mail in self if mail.is_for(address)]

    def only(self) -> EnqueuedMail:
        """Return the only mail.

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
        """Assert that a mail matches, and return it; if several match, the last one.

        A compiled pattern is searched for, in any argument that takes one.

        Args:
            to: One of its recipients, in any spelling.
            subject: The whole subject.
            text: A part of the text body.
            html: A part of the HTML body.
            attachment: The file name of an attachment.
            sender: The whole sender, as in the From header.
            idempotency_key: The whole key.
            tag: One of its tags.

        Raises:
            AssertionError: no mail matches; the text shows how each one differs.
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
        return self._matching(wanted)

    def assert_nothing(self, *, to: str | None = None) -> None:
        """Assert that no mail was enqueued.

        Args:
            to: Only consider mail for this address. Default: all mail.

        Raises:
            AssertionError: there is some; it is listed.
        """
        __tracebackhide__ = True
        mails = [mail for mail in self._mails() if to is None or mail.is_for(to)]
        if mails:
            recipient = "" if to is None else f" to {to}"
            raise AssertionError(f"expected no mail{recipient}, got: {_listed(mails)}")

    def ignore(self) -> None:
        """Count all mail so far as asserted."""
        self._seen.update(self._mails())

    def unasserted(self, after: int) -> list[EnqueuedMail]:
        """Return the mail that nobody looked at, except the first ``after`` that were enqueued."""
        mails = (one.mail for one in self.recorder.since(after))
        return [mail for mail in mails if mail not in self._seen]

    def _matching(self, wanted: Expectation) -> EnqueuedMail:
        __tracebackhide__ = True
        mails = self._mails()
        matching = [mail for mail in mails if not wanted.differences(mail)]
        if not matching:
            raise AssertionError(_missing(wanted, mails))
        self._seen.update(matching)
        return matching[-1]

    def _mails(self) -> list[EnqueuedMail]:
        return [one.mail for one in self.recorder.current]


def _listed(mails: Sequence[EnqueuedMail]) -> str:
    if not mails:
        return "none"
    shown = [repr(mail) for mail in mails[:_MOST_SHOWN]]
    named = and_more(shown, _MOST_SHOWN, count=len(mails), separator="\n  ")
    return f"{len(mails)}:\n  {named}"


def _missing(wanted: Expectation, mails: Sequence[EnqueuedMail]) -> str:
    """Say how each mail differs, the most similar first."""
    if not mails:
        return f"expected {wanted}, got no mail at all"
    differences = sorted(
        ((mail, wanted.differences(mail)) for mail in mails), key=lambda pair: len(pair[1])
    )
    lines = [f"expected {wanted}, got {len(mails)} that differ:"]
    for mail, found in differences[:_MOST_SHOWN]:
        lines.append(repr(mail))
        lines += [textwrap.indent(one, "  ") for one in found]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a mail should be; None for what does not matter. See `OutboxMail.assert_enqueued`."""

    to: str | None = None
    subject: Expected | None = None
    text: Expected | None = None
    html: Expected | None = None
    attachment: str | None = None
    sender: Expected | None = None
    idempotency_key: Expected | None = None
    tag: str | None = None

    def __str__(self) -> str:
        """Describe it in words."""
        given = ((one.name, getattr(self, one.name)) for one in fields(self) if one.name != "to")
        texts = [f"{name} {_shown(wanted)}" for name, wanted in given if wanted is not None]
        recipient = "" if self.to is None else f" to {self.to}"
        return f"a mail{recipient}" + (f" with {', '.join(texts)}" if texts else "")

    def differences(self, mail: EnqueuedMail) -> list[str]:
        """Return how ``mail`` differs, a few lines for each difference; nothing if it matches."""
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
