"""Doing a thing again whenever one of its files changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from postroom.cli.errors import failure
from postroom.cli.output import complain
from postroom.values.errors import PostroomError

#: Quick enough for a person who has just saved a file.
_LOOK_EVERY_S = 0.3


def at_each_change(places: Iterable[Path], show: Callable[[], None]) -> None:
    """Call ``show`` now and at each change below ``places``, until Ctrl-C.

    What is wrong with a file is told, and the next change awaited.
    """
    watched = tuple(places)
    seen: Mapping[Path, int] | None = None
    while True:
        found = _changes(watched)
        if found != seen:
            seen = found
            _show(show)
        time.sleep(_LOOK_EVERY_S)


def _show(show: Callable[[], None]) -> None:
    try:
        show()
    except (PostroomError, OSError) as error:
        complain(failure(error).text)


def _changes(places: Iterable[Path]) -> dict[Path, int]:
    return dict(_times(file) for place in places for file in _files(place))


def _times(file: Path) -> tuple[Path, int]:
    try:
        return file, file.stat().st_mtime_ns
    except FileNotFoundError:  # an editor is replacing it
        return file, 0


def _files(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    for folder, _, names in os.walk(place):
        yield from (Path(folder, name) for name in names)
