"""Database URLs: shown without their secrets, and the file that a SQLite URL names.

SQLAlchemy masks the password before the host. A URL may have one in other places too: in
``?password=`` or ``?sslpassword=``, which libpq reads, or in the host, after an unescaped ``@``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, urlsplit

from sqlalchemy import URL

_MASK = "***"

#: What is shown of the part after the question mark, by name: a new option may be a secret.
_HARMLESS = frozenset(
    {
        *("application_name", "channel_binding", "client_encoding", "connect_timeout"),
        *("dbname", "gssencmode", "host", "hostaddr", "keepalives", "keepalives_count"),
        *("keepalives_idle", "keepalives_interval", "load_balance_hosts", "port"),
        *("prepared_statement_cache_size", "require_auth", "service", "ssl", "sslcert"),
        *("sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslrootcert"),
        *("target_session_attrs", "tcp_user_timeout", "user"),
        # SQLite's
        *("cache", "check_same_thread", "immutable", "mode", "nolock", "timeout", "uri", "vfs"),
    }
)


def shown_url(url: URL) -> str:
    """Return ``url`` as it may be printed, logged or put into an error.

    Masked are the password, the values of options that are not known to be harmless, and anything
    before an ``@`` in the host or the name of the database.

    Args:
        url: The database's URL, secrets included.
    """
    query = {name: value if name in _HARMLESS else _MASK for name, value in url.query.items()}
    shown = url.set(query=query, host=_after_at(url.host))
    if url.get_backend_name() != "sqlite" and url.database:
        # A file may be called anything; the name of a database holds neither of these.
        name, _, options = (_after_at(url.database) or "").partition(";")
        shown = shown.set(database=f"{name};{_MASK}" if options else name)
    return shown.render_as_string(hide_password=True).replace(quote_plus(_MASK), _MASK)


def without_secrets(text: str, url: URL) -> str:
    """Return ``text``, written by a driver or a server, with the secrets of ``url`` masked.

    Args:
        text: An error text about the database.
        url: The database's URL, secrets included.
    """
    # The longest first: one may be a part of another.
    for secret in sorted(_secrets(url), key=len, reverse=True):
        for form in (secret, quote(secret, safe=""), quote_plus(secret)):
            text = text.replace(form, _MASK)
    return text


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite database, which need not exist; None for any other database.

    Args:
        url: The database's URL. It may contain a SQLite URI, as in ``sqlite:///file:a.db``.
    """
    if url.get_backend_name() != "sqlite":
        return None
    name = url.database or ""
    return Path(unquote(urlsplit(name).path) if name.startswith("file:") else name)


def _secrets(url: URL) -> Iterator[str]:
    candidates = [url.password, _before_at(url.host)]
    if url.get_backend_name() != "sqlite":
        candidates += [_before_at(url.database), (url.database or "").partition(";")[2]]
    yield from (str(one) for one in candidates if one)
    for name, value in url.query.items():
        if name not in _HARMLESS:
            yield from filter(None, (value,) if isinstance(value, str) else value)


def _after_at(text: str | None) -> str | None:
    before = _before_at(text)
    return text if text is None or not before else f"{_MASK}@{text[len(before) + 1 :]}"


def _before_at(text: str | None) -> str:
    return (text or "").rpartition("@")[0]
