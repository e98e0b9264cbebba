"""Which addresses and names a database may take as they are, in its own words.

These are strict, never lax: what passes is what `Address` accepts, unchanged. Whatever does not
pass, `Address` looks at.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Dialect, LargeBinary, and_, cast, collate, func

#: The most octets of a local part; a shorter address has no part that is too long.
_LONGEST = 64

#: Of a folded address. Two hyphens together are left to Python: A-labels begin with them.
_ATOM = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN = rf"^{_ATOM}(?:\.{_ATOM})*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]+$"

#: As `postroom.values.headers` has them; neither database keeps a surrogate, nor PostgreSQL a NUL.
_UNWRITABLE = r"[\u0001-\u001f\u007f-\u009f\u2028\u2029]"

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def folded(address: ColumnElement[str], dialect: Dialect) -> ColumnElement[str]:
    """Return the key of a plain ``address``: only ASCII letters are folded."""
    if dialect.name == "postgresql":
        return func.lower(collate(address, "C"))
    return func.lower(address)


def is_plain(
    address: ColumnElement[str], key: ColumnElement[str], dialect: Dialect
) -> ColumnElement[bool]:
    """Return whether `Address` accepts ``address``, whose `folded` form is ``key``."""
    if dialect.name == "postgresql":
        return and_(func.length(address) <= _LONGEST, collate(key, "C").regexp_match(_PLAIN))
    return _is_plain_on_sqlite(address, key)


def _is_plain_on_sqlite(
    address: ColumnElement[str], key: ColumnElement[str]
) -> ColumnElement[bool]:
    """SQLite has no regular expressions; of local parts only the usual characters are plain."""
    glob = key.bool_op("GLOB")
    return and_(
        func.length(address) <= _LONGEST,
        _octets(address) == func.length(address),  # functions of texts stop at a NUL
        ~glob("*[^-+.0-9@_a-z]*"),
        ~glob("[.@]*"),
        ~glob("*[-.@][-.@]*"),
        ~glob("*@*[^-.0-9a-z]*"),  # a second @ too
        func.rtrim(key, _LETTERS).bool_op("GLOB")("*@*."),  # before the top-level domain
        func.substr(key, -1) != ".",
    )


def is_writable(name: ColumnElement[str], dialect: Dialect) -> ColumnElement[bool]:
    """Return whether ``name`` may be a display name."""
    if dialect.name == "postgresql":
        return ~name.regexp_match(_UNWRITABLE)
    unwritable = "\1-\x1f\x7f-\x9f\u2028\u2029"
    return and_(
        ~name.bool_op("GLOB")(f"*[{unwritable}]*"),
        func.instr(cast(name, LargeBinary), b"\0") == 0,
    )


def _octets(text: ColumnElement[str]) -> ColumnElement[Any]:
    return func.length(cast(text, LargeBinary))
