"""Logging in (RFC 4954): which mechanism, and its steps. Credentials leave only from here."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Generator

from postroom.errors import AuthError, named
from postroom.relays.options import AuthMechanism
from postroom.relays.relay import Relay
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.connection import Connection
from postroom.smtp.reply import Reply
from postroom.states import Phase

#: Yields what to answer, is sent each challenge. First comes the initial response; None: none.
Steps = Generator[bytes | None, bytes, None]

_SUCCESS = 235
_CHALLENGE = 334
#: The mechanism is not available to us (RFC 4954 section 6): another one may be.
_TRY_ANOTHER = frozenset({500, 501, 502, 504, 534, 538})

_WITH_TOKEN: tuple[AuthMechanism, ...] = (AuthMechanism.XOAUTH2, AuthMechanism.OAUTHBEARER)
_IN_PRIVATE: tuple[AuthMechanism, ...] = (
    AuthMechanism.PLAIN,
    AuthMechanism.LOGIN,
    AuthMechanism.CRAM_MD5,
)
_OVERHEARD: tuple[AuthMechanism, ...] = (
    AuthMechanism.CRAM_MD5,
    AuthMechanism.PLAIN,
    AuthMechanism.LOGIN,
)


def _plain(relay: Relay, secret: str) -> Steps:
    yield f"\0{relay.username}\0{secret}".encode()


def _login(relay: Relay, secret: str) -> Steps:
    yield None
    yield f"{relay.username}".encode()
    yield secret.encode()


def _cram_md5(relay: Relay, secret: str) -> Steps:
    challenge = yield None
    yield f"{relay.username} {hmac.digest(secret.encode(), challenge, 'md5').hex()}".encode()


def _xoauth2(relay: Relay, secret: str) -> Steps:
    yield f"user={relay.username}\x01auth=Bearer {secret}\x01\x01".encode()
    # The challenge says what is wrong with the token; an empty answer brings the 535.
    yield b""


def _oauthbearer(relay: Relay, secret: str) -> Steps:
    where = f"host={relay.host}\x01port={relay.port}"
    yield f"n,a={relay.username},\x01{where}\x01auth=Bearer {secret}\x01\x01".encode()
    yield b"\x01"  # RFC 7628 section 3.2.3


_STEPS: dict[AuthMechanism, Callable[[Relay, str], Steps]] = {
    AuthMechanism.PLAIN: _plain,
    AuthMechanism.LOGIN: _login,
    AuthMechanism.CRAM_MD5: _cram_md5,
    AuthMechanism.XOAUTH2: _xoauth2,
    AuthMechanism.OAUTHBEARER: _oauthbearer,
}


def authenticate(connection: Connection, capabilities: Capabilities) -> AuthMechanism:
    """Log in with the best mechanism both sides know; return which one it was.

    A token is asked for once more where the relay refuses it: it may have expired just now.

    Raises:
        AuthError: the relay refuses our credentials, or would see them unprotected.
        RelayError: the conversation broke.
    """
    relay = connection.relay
    if not connection.is_confidential and not relay.auth_over_clear:
        raise AuthError(
            f"expected TLS before the relay {relay.name} gets credentials, got: clear text, or a "
            "certificate nobody verified; auth_over_clear=yes sends them all the same",
            phase=Phase.AUTH,
        )
    secret = _secret(relay)
    try:
        return _try_each(connection, capabilities, secret)
    except AuthError:
        fresh = _secret(relay)
        if relay.token is None or fresh == secret:
            raise
        return _try_each(connection, capabilities, fresh)


def _try_each(connection: Connection, capabilities: Capabilities, secret: str) -> AuthMechanism:
    refusal: Reply | None = None
    for mechanism in _candidates(connection, capabilities):
        reply = _exchange(connection, mechanism, secret)
        if reply.code == _SUCCESS:
            return mechanism
        refusal = reply
        if reply.code not in _TRY_ANOTHER:
            break
    raise _refused(connection.relay, capabilities, refusal)


def _candidates(connection: Connection, capabilities: Capabilities) -> list[AuthMechanism]:
    relay = connection.relay
    if relay.auth is not None:
        return [relay.auth]
    if relay.token is not None:
        known = _WITH_TOKEN
    else:
        known = _IN_PRIVATE if connection.is_confidential else _OVERHEARD
    return [mechanism for mechanism in known if mechanism.upper() in capabilities.auth_mechanisms]


def _exchange(connection: Connection, mechanism: AuthMechanism, secret: str) -> Reply:
    """Go through the steps of ``mechanism``; return the reply that ends them."""
    steps = _STEPS[mechanism](connection.relay, secret)
    name = mechanism.upper()
    initial = next(steps)
    if initial is None:
        reply = connection.command(f"AUTH {name}", Phase.AUTH)
    else:
        reply = _say(connection, f"AUTH {name} ", initial, secret)
    while reply.code == _CHALLENGE:
        try:
            answer = steps.send(_decoded(reply.text))
        except StopIteration:
            return connection.command("*", Phase.AUTH)  # no such step: call it off
        reply = _say(connection, "", answer or b"", secret)
    return reply


def _say(connection: Connection, prefix: str, response: bytes, secret: str) -> Reply:
    encoded = base64.b64encode(response).decode("ascii")
    # CRAM-MD5 sends no secret, but what lets others try passwords at leisure.
    proof = response.decode().removeprefix(f"{connection.relay.username} ")
    connection.conceal(secret, encoded, proof if len(response) > len(proof.encode()) else "")
    return connection.command(prefix + encoded, Phase.AUTH, shown=f"{prefix}***")


def _decoded(challenge: str) -> bytes:
    try:
        return base64.b64decode(challenge, validate=False)
    except ValueError:
        return b""


def _secret(relay: Relay) -> str:
    """Return the token or the password, which a callable of the application's may give.

    Raises:
        AuthError: it raised, or gave what is none; the text never shows what it gave.
    """
    what = "token" if relay.token is not None else "password"
    try:
        secret: object = _asked(relay)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a `SystemExit` or a cancelled task of the callable's as well
        raise AuthError(
            f"the {what} of the relay {relay.name} is not to be had: its callable raised "
            f"{named(error)}",
            phase=Phase.AUTH,
        ) from error
    if not isinstance(secret, str) or not secret or not _is_text(secret):
        raise AuthError(
            f"the {what} of the relay {relay.name} must be text, not empty and without lone "
            f"surrogates; its callable returned {type(secret).__name__}",
            phase=Phase.AUTH,
        )
    return secret


def _asked(relay: Relay) -> str:
    if relay.token is not None:
        return relay.token()
    assert relay.password is not None, "Relay refuses a user name without a secret"
    return relay.password.reveal()


def _is_text(secret: str) -> bool:
    try:
        secret.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(relay: Relay, capabilities: Capabilities, refusal: Reply | None) -> AuthError:
    if refusal is not None:
        return AuthError(
            f"expected the relay {relay.name} to accept our credentials, got: {refusal}; check "
            "its user name and password or token",
            phase=Phase.AUTH,
            reply=refusal,
        )
    offered = " ".join(sorted(capabilities.auth_mechanisms)) or "no AUTH at all"
    return AuthError(
        f"expected the relay {relay.name} to offer a login we know for what we have, got: "
        f"{offered}; is the port right, and the user name wanted at all?",
        phase=Phase.AUTH,
    )
