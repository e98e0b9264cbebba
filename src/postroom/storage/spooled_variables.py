"""Variables of many recipients on their way into the database: what is much goes through a file."""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any, TypeAlias

#: All variables of one enqueue stay in memory up to about this; beyond it they go into the file.
IN_MEMORY_BYTES = 8 * 1024 * 1024

#: What a value that is no text is taken to need.
_OTHER_BYTES = 64


class SpooledVariables:
    """One recipient's variables in the file of an enqueue."""

    __slots__ = ("_file", "_offset", "_size_bytes")

    def __init__(self, file: _File, offset: int, size_bytes: int) -> None:
        self._file = file
        self._offset = offset
        self._size_bytes = size_bytes

    def load(self) -> Mapping[str, Any]:
        """Read them back."""
        loaded: Mapping[str, Any] = json.loads(self._file.read(self._offset, self._size_bytes))
        return loaded


Variables: TypeAlias = Mapping[str, Any] | SpooledVariables


def loaded(variables: Variables | None) -> Mapping[str, Any] | None:
    """Return the variables themselves, wherever they are."""
    return variables.load() if isinstance(variables, SpooledVariables) else variables


class VariablesSpool:
    """Takes the packed variables of one enqueue, one recipient after the other."""

    def __init__(self) -> None:
        self._in_memory = 0
        self._file: _File | None = None

    def keep(self, packed: Mapping[str, Any]) -> Variables:
        """Return what stands for ``packed``: itself, or its place in the file.

        Args:
            packed: A recipient's variables, as they go into JSON.

        Raises:
            OSError: the temporary directory has no room.
        """
        if self._in_memory <= IN_MEMORY_BYTES:
            self._in_memory += sum(map(_size_bytes, packed.values()))
            return packed
        if self._file is None:
            self._file = _File()
        written = json.dumps(packed).encode()
        return SpooledVariables(self._file, self._file.append(written), len(written))


class _File:
    """An unlinked temporary file, closed when nobody has it any more."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile(prefix="postroom-") as file:
            self._descriptor = os.dup(file.fileno())
        self._end = 0
        weakref.finalize(self, os.close, self._descriptor)

    def append(self, content: bytes) -> int:
        """Write ``content``; return where it begins."""
        begin, left = self._end, memoryview(content)
        while left:
            left = left[os.pwrite(self._descriptor, left, self._end + len(content) - len(left)) :]
        self._end += len(content)
        return begin

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return what was written there."""
        return os.pread(self._descriptor, size_bytes, offset)


def _size_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return len(json.dumps(value)) if isinstance(value, dict | list) else _OTHER_BYTES
