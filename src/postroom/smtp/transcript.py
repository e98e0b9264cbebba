"""Credentials, masked in what a relay says: some repeat what they did not like to hear.

They repeat it cut short, in another case, wrapped over several lines, decoded, or percent-encoded.
So it is not one text that is looked for, but every run of it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import quote

from postroom.smtp.reply import Reply

_MASK = "***"

#: So many characters in a row are no coincidence.
RUN = 8

#: A shorter word, with its punctuation left out, could be any word.
_LEAST = 4

#: RFC 2034: stands at the start of each line, and is no part of what is wrapped over them.
_ENHANCED = re.compile(r"\s*[245]\.\d{1,3}\.\d{1,3}\s")

_WORD = re.compile(r"\S+")
_NO_WORD = re.compile(r"[\W_]+")

_View = Callable[[str], bool]
#: Which characters count: all, all but spaces, or letters and digits alone.
_VIEWS: tuple[_View, ...] = (lambda _: True, lambda c: not c.isspace(), str.isalnum)

_Place = tuple[int, int]


class Concealment:
    """Masks each word of a relay that holds a run of ``RUN`` characters of a secret, or all of it.

    A secret is found in its clear form, in base64 at any offset, percent-encoded and in hex.
    """

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        #: For each view: the runs to look for, by their length.
        self._runs: tuple[dict[int, set[str]], ...] = tuple({} for _ in _VIEWS)

    def add(self, *secrets: str) -> None:
        """Mask ``secrets`` from now on.

        Args:
            secrets: What was sent to the relay, or went into it; an empty one changes nothing.
        """
        for form in {form for secret in secrets for form in _forms(secret)}:
            for number, (view, runs) in enumerate(zip(_VIEWS, self._runs, strict=True)):
                seen = "".join(_lower(c) for c in form if view(c))
                if seen and (number == 0 or len(seen) >= _LEAST):
                    size = min(RUN, len(seen))
                    found = (seen[at : at + size] for at in range(len(seen) - size + 1))
                    runs.setdefault(size, set()).update(found)

    def reply(self, reply: Reply) -> Reply:
        """Return ``reply`` without secrets.

        Args:
            reply: What the relay said.
        """
        lines = self._masked(reply.lines)
        return reply if lines == reply.lines else Reply(code=reply.code, lines=lines)

    def text(self, text: str) -> str:
        """Return ``text`` without secrets.

        Args:
            text: One line that holds what the relay said.
        """
        return self._masked((text,))[0]

    def _masked(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        if self._is_clean(lines):
            return lines
        marked = {place for places in self._found(lines) for place in places}
        if not marked:
            return lines
        return tuple(
            _WORD.sub(
                lambda word, number=number: (  # type: ignore[misc]
                    _MASK
                    if any((number, at) in marked for at in range(word.start(), word.end()))
                    else word[0]
                ),
                line,
            )
            for number, line in enumerate(lines)
        )

    def _is_clean(self, lines: Sequence[str]) -> bool:
        """Return whether nothing can be found; quickly, as of most replies in ASCII it is true."""
        said = "".join(line[_start(line) :] for line in lines).lower()
        views = (said, "".join(said.split()), _NO_WORD.sub("", said))
        return said.isascii() and all(
            wanted.isdisjoint([view[at : at + size] for at in range(len(view) - size + 1)])
            for view, runs in zip(views, self._runs, strict=True)
            for size, wanted in runs.items()
        )

    def _found(self, lines: Sequence[str]) -> Iterator[Sequence[_Place]]:
        """Yield where each run stands; it may begin in one line and end in another."""
        for view, runs in zip(_VIEWS, self._runs, strict=True):
            places = [place for place in _places(lines) if view(lines[place[0]][place[1]])]
            said = "".join(_lower(lines[number][at]) for number, at in places)
            for size, wanted in runs.items():
                for at in range(len(said) - size + 1):
                    if said[at : at + size] in wanted:
                        yield places[at : at + size]


def _places(lines: Sequence[str]) -> Iterator[_Place]:
    for number, line in enumerate(lines):
        yield from ((number, at) for at in range(_start(line), len(line)))


def _start(line: str) -> int:
    code = _ENHANCED.match(line)
    return code.end() if code else 0


def _forms(secret: str) -> Iterable[str]:
    content = secret.encode(errors="surrogatepass")
    return (secret, quote(content, safe=""), content.hex(), *_in_base64(content))


def _in_base64(content: bytes) -> Iterator[str]:
    """Yield what of ``content`` stands in the base64 of anything that holds it."""
    for offset, before in ((0, 0), (1, 2), (2, 3)):
        encoded = base64.b64encode(bytes(offset) + content).decode("ascii")
        is_whole = not (offset + len(content)) % 3
        form = encoded[before:] if is_whole else encoded[before:].rstrip("=")[:-1]
        if len(form) >= RUN:
            yield form


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character


_MAX_ENTRIES = 40
_MAX_LINES_EACH = 20
_MAX_CHARACTERS = 8_000

_Said = bytes | str | Reply


class Transcript:
    """The handshake and the transaction at hand; entries are made readable only when asked."""

    __slots__ = ("_current", "_handshake")

    def __init__(self) -> None:
        self._handshake: list[_Said] = []
        self._current: list[_Said] = []

    def add(self, said: _Said) -> None:
        """Note what the relay said (a ``Reply``) or what we did, already redacted."""
        self._current.append(said)

    def end_handshake(self) -> None:
        """Keep what was said so far for good."""
        self._handshake = self._current
        self._current = []

    def begin(self, said: _Said) -> None:
        """Forget the transaction before, and begin with ``said``."""
        self._current = [said]

    def text(self) -> str:
        """Return it as lines that begin with ``>`` (we) or ``<`` (the relay)."""
        shown = [*self._handshake[:_MAX_ENTRIES], *self._current[:_MAX_ENTRIES]]
        lines = [line for said in shown for line in _lines(said)]
        if (left_out := len(self._current) - _MAX_ENTRIES) > 0:
            lines.append(f"[{left_out} more left out]")
        return "\n".join(lines)[:_MAX_CHARACTERS]


def _lines(said: _Said) -> list[str]:
    if isinstance(said, Reply):
        marks = ["-"] * (len(said.lines) - 1) + [" "]
        lines = [f"< {said.code}{mark}{line}" for mark, line in zip(marks, said.lines, strict=True)]
    elif isinstance(said, str):
        lines = [f"[{said}]"]
    else:
        lines = [f"> {line}" for line in said.decode("utf-8", "replace").splitlines()]
    if len(lines) > _MAX_LINES_EACH:
        left_out = len(lines) - _MAX_LINES_EACH
        lines[_MAX_LINES_EACH - 1 : -1] = [f"[{left_out} more lines left out]"]
    return lines
