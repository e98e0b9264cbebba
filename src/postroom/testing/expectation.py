"""What a test expects of a mail, and in words how a mail differs from it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TypeAlias

from postroom.testing.arrived import Letter
from postroom.testing.enqueued import EnqueuedMail

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
    key: Expected | None = None
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
        yield from _whole("key", self.key, mail.key or "")
        if self.tag is not None and self.tag not in mail.tags:
            yield f"its tags are {', '.join(mail.tags) or 'none'}"
        yield from self._content(copy)

    def _content(self, copy: Letter) -> Iterator[str]:
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
