"""What both sides said, for people to read, without credentials.

Some relays repeat the credentials they refuse: cut short, in another case, wrapped over several
lines, decoded or percent-encoded. So every run of characters of a secret is masked, not only all of
it. Making a transcript costs nothing for accepted mail: entries are formatted when they are read.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import quote

from postroom.smtp.reply import Reply

_MAX_ENTRIES = 40
_MAX_LINES_PER_ENTRY = 20
_MAX_CHARACTERS = 8_000

#: A command, a note of ours, or a reply.
_Entry = bytes | str | Reply

_MASK = "***"

#: This many characters of a secret in a row are not a coincidence.
RUN = 8

#: A shorter secret is only looked for as it is: without its punctuation it could be any word.
_MIN_CHARACTERS = 4

#: At the start of each line (RFC 2034 section 4), and not a part of text that is wrapped.
_ENHANCED = re.compile(r"\s*[245]\.\d{1,3}\.\d{1,3}\s")

_WORD = re.compile(r"\S+")
_PUNCTUATION = re.compile(r"[\W_]+")

_View = Callable[[str], bool]
#: Which characters are compared: all, all but spaces, or only letters and digits.
_VIEWS: tuple[_View, ...] = (lambda _: True, lambda c: not c.isspace(), str.isalnum)

#: Line number, position in the line.
_Position = tuple[int, int]


class Transcript:
    """What was said in the handshake and the last transaction of a connection."""

    __slots__ = ("_current", "_handshake")

    def __init__(self) -> None:
        self._handshake: list[_Entry] = []
        self._current: list[_Entry] = []

    def add(self, entry: _Entry) -> None:
        """Add an entry to the current transaction.

        Args:
            entry: A reply, a command as bytes, or a note as text; without credentials.
        """
        self._current.append(entry)

    def end_handshake(self) -> None:
        """Keep the entries so far for the whole life of the connection."""
        self._handshake = self._current
        self._current = []

    def begin(self, entry: _Entry) -> None:
        """Forget the last transaction and start the next one.

        Args:
            entry: Its first entry.
        """
        self._current = [entry]

    def text(self) -> str:
        """Return the transcript as lines that begin with ``>`` (Postroom) or ``<`` (the relay).

        At most 40 entries each of the handshake and the transaction, 20 lines each, and 8,000
        characters in all.
        """
        entries = [*self._handshake[:_MAX_ENTRIES], *self._current[:_MAX_ENTRIES]]
        lines = [line for entry in entries for line in _lines(entry)]
        if (left_out := len(self._current) - _MAX_ENTRIES) > 0:
            lines.append(f"[{left_out} more left out]")
        return "\n".join(lines)[:_MAX_CHARACTERS]


def _lines(entry: _Entry) -> list[str]:
    if isinstance(entry, Reply):
        marks = ["-"] * (len(entry.lines) - 1) + [" "]
        marked = zip(marks, entry.lines, strict=True)
        lines = [f"< {entry.code}{mark}{line}" for mark, line in marked]
    elif isinstance(entry, str):
        lines = [f"[{entry}]"]
    else:
        lines = [f"> {line}" for line in entry.decode("utf-8", "replace").splitlines()]
    if len(lines) > _MAX_LINES_PER_ENTRY:
        left_out = len(lines) - _MAX_LINES_PER_ENTRY
        lines[_MAX_LINES_PER_ENTRY - 1 : -1] = [f"[{left_out} more lines left out]"]
    return lines


class Redactor:
    """Masks secrets in replies: every word with ``RUN`` characters of one in a row, or all of it.

    A secret is found in clear text, in base64 at any offset, percent-encoded and in hexadecimal;
    in any case, and across line ends.
    """

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        #: For each view, the runs to look for by their length.
        self._runs: tuple[dict[int, set[str]], ...] = tuple({} for _ in _VIEWS)

    def add(self, *secrets: str) -> None:
        """Mask ``secrets`` from now on.

        Args:
            secrets: What is sent to the relay, or a part of it; empty ones are ignored.
        """
        for form in {form for secret in secrets for form in _forms(secret)}:
            for number, (view, runs) in enumerate(zip(_VIEWS, self._runs, strict=True)):
                seen = "".join(_lower(c) for c in form if view(c))
                if seen and (number == 0 or len(seen) >= _MIN_CHARACTERS):
                    size = min(RUN, len(seen))
                    found = (seen[at : at + size] for at in range(len(seen) - size + 1))
                    runs.setdefault(size, set()).update(found)

    def mask_reply(self, reply: Reply) -> Reply:
        """Return ``reply`` with its secrets masked.

        Args:
            reply: The reply of the relay.
        """
        lines = self._masked(reply.lines)
        return reply if lines == reply.lines else Reply(code=reply.code, lines=lines)

    def mask_text(self, text: str) -> str:
        """Return ``text`` with its secrets masked.

        Args:
            text: One line that quotes the relay.
        """
        return self._masked((text,))[0]

    def _masked(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        if self._is_clean(lines):
            return lines
        masked = {position for run in self._found(lines) for position in run}
        if not masked:
            return lines
        return tuple(
            _WORD.sub(
                lambda word, number=number: (  # type: ignore[misc]
                    _MASK
                    if any((number, at) in masked for at in range(word.start(), word.end()))
                    else word[0]
                ),
                line,
            )
            for number, line in enumerate(lines)
        )

    def _is_clean(self, lines: Sequence[str]) -> bool:
        """Return whether there is nothing to mask: a fast check, true for most ASCII replies."""
        text = "".join(line[_start(line) :] for line in lines).lower()
        views = (text, "".join(text.split()), _PUNCTUATION.sub("", text))
        return text.isascii() and all(
            wanted.isdisjoint([view[at : at + size] for at in range(len(view) - size + 1)])
            for view, runs in zip(views, self._runs, strict=True)
            for size, wanted in runs.items()
        )

    def _found(self, lines: Sequence[str]) -> Iterator[Sequence[_Position]]:
        """Yield the positions of each run; it may begin in one line and end in another."""
        for view, runs in zip(_VIEWS, self._runs, strict=True):
            positions = [
                (number, at) for number, at in _positions(lines) if view(lines[number][at])
            ]
            text = "".join(_lower(lines[number][at]) for number, at in positions)
            for size, wanted in runs.items():
                for at in range(len(text) - size + 1):
                    if text[at : at + size] in wanted:
                        yield positions[at : at + size]


def _positions(lines: Sequence[str]) -> Iterator[_Position]:
    for number, line in enumerate(lines):
        yield from ((number, at) for at in range(_start(line), len(line)))


def _start(line: str) -> int:
    code = _ENHANCED.match(line)
    return code.end() if code else 0


def _forms(secret: str) -> Iterable[str]:
    content = secret.encode(errors="surrogatepass")
    return (secret, quote(content, safe=""), content.hex(), *_in_base64(content))


def _in_base64(content: bytes) -> Iterator[str]:
    """Yield the base64 of ``content`` at each offset, as found in the base64 of a longer text."""
    for offset, before in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(bytes(offset) + content).decode("ascii")
        is_whole = not (offset + len(content)) % 3
        form = encoded[before:] if is_whole else encoded[before:].rstrip("=")[:-1]
        if len(form) >= RUN:
            yield form


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character
