"""The server's side of AUTH, for ``FaultyRelay``."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping

MECHANISMS = "PLAIN LOGIN CRAM-MD5 XOAUTH2 OAUTHBEARER"

#: Sends a challenge, returns the client's answer.
Ask = Callable[[bytes], bytes]

_CHALLENGE = b"<1896.697170952@relay.example>"
_BAD_TOKEN = b'{"status":"401","schemes":"bearer"}'


def check(arguments: str, credentials: Mapping[str, str], ask: Ask) -> bool:
    """Return whether ``AUTH <arguments>`` shows one of ``credentials`` (user: password or token).

    Raises:
        KeyError: the mechanism is unknown.
    """
    mechanism, _, initial = arguments.partition(" ")
    response = decoded(initial) if initial else None
    return _MECHANISMS[mechanism.upper()](credentials, response, ask)


def decoded(text: str) -> bytes:
    """Return what base64 ``text`` stands for; nothing where it is none."""
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _plain(credentials: Mapping[str, str], response: bytes | None, ask: Ask) -> bool:
    _, _, rest = (ask(b"") if response is None else response).partition(b"\0")
    user, _, password = rest.partition(b"\0")
    return credentials.get(user.decode()) == password.decode()


def _login(credentials: Mapping[str, str], response: bytes | None, ask: Ask) -> bool:
    user = ask(b"Username:") if response is None else response
    return credentials.get(user.decode()) == ask(b"Password:").decode()


def _cram_md5(credentials: Mapping[str, str], response: bytes | None, ask: Ask) -> bool:
    user, _, digest = ask(_CHALLENGE).decode().rpartition(" ")
    password = credentials.get(user, "")
    return hmac.compare_digest(
        digest, hmac.digest(password.encode(), _CHALLENGE, "md5").hex()
    ) and bool(password)


def _bearer(credentials: Mapping[str, str], response: bytes | None, ask: Ask) -> bool:
    shown = (ask(b"") if response is None else response).decode()
    for user, token in credentials.items():
        named = f"user={user}\x01" in shown or f"a={user}," in shown
        if named and f"auth=Bearer {token}\x01" in shown:
            return True
    ask(_BAD_TOKEN)
    return False


_MECHANISMS: Mapping[str, Callable[[Mapping[str, str], bytes | None, Ask], bool]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    "XOAUTH2": _bearer,
    "OAUTHBEARER": _bearer,
}
