"""Login (RFC 4954): which mechanism is used, and its steps.

Credentials are sent only from here, and each is masked in the transcript before it is sent.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Generator

from postroom.errors import AuthError, named
from postroom.relays.options import AuthMechanism
from postroom.relays.relay import Relay
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.connection import Connection
from postroom.smtp.reply import AUTH_CHALLENGE, AUTH_SUCCEEDED, Reply
from postroom.states import Phase

#: Yields each response and is sent each challenge. The first one is the initial response, or None.
Steps = Generator[bytes | None, bytes, None]

#: The mechanism cannot be used (RFC 4954 section 6), but another one may work.
_MECHANISM_REFUSED = frozenset({500, 501, 502, 504, 534, 538})

# The mechanisms in order of preference: with a token, and with a password that nobody else or
# anybody can read on the way. CRAM-MD5 is the only one of these that does not send it.
_WITH_TOKEN: tuple[AuthMechanism, ...] = (AuthMechanism.XOAUTH2, AuthMechanism.OAUTHBEARER)
_CONFIDENTIAL: tuple[AuthMechanism, ...] = (
    AuthMechanism.PLAIN,
    AuthMechanism.LOGIN,
    AuthMechanism.CRAM_MD5,
)
_IN_CLEAR_TEXT: tuple[AuthMechanism, ...] = (
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
    # The challenge tells what is wrong with the token; an empty response ends it with 535.
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
    """Log in with the best mechanism that both sides know, and return it.

    If the relay refuses a token, ``Relay.token`` is called once more: it may just have expired.

    Args:
        connection: A connection after EHLO.
        capabilities: What the relay announced.

    Raises:
        AuthError: The relay refuses the credentials, or they would be sent without protection.
        RelayError: The connection broke.
    """
    relay = connection.relay
    if not connection.is_confidential and not relay.auth_over_clear:
        raise AuthError(
            f"the relay {relay.name} gets no credentials without TLS and a verified certificate; "
            "auth_over_clear=yes sends them anyway",
            phase=Phase.AUTH,
        )
    secret = _secret(relay)
    try:
        return _try_each(connection, capabilities, secret)
    except AuthError:
        renewed = _secret(relay)
        if relay.token is None or renewed == secret:
            raise
        return _try_each(connection, capabilities, renewed)


def _try_each(connection: Connection, capabilities: Capabilities, secret: str) -> AuthMechanism:
    refusal: Reply | None = None
    for mechanism in _candidates(connection, capabilities):
        reply = _run_mechanism(connection, mechanism, secret)
        if reply.code == AUTH_SUCCEEDED:
            return mechanism
        refusal = reply
        if reply.code not in _MECHANISM_REFUSED:
            break
    raise _refused(connection.relay, capabilities, refusal)


def _candidates(connection: Connection, capabilities: Capabilities) -> list[AuthMechanism]:
    relay = connection.relay
    if relay.auth is not None:
        return [relay.auth]
    if relay.token is not None:
        known = _WITH_TOKEN
    else:
        known = _CONFIDENTIAL if connection.is_confidential else _IN_CLEAR_TEXT
    return [mechanism for mechanism in known if mechanism.upper() in capabilities.auth_mechanisms]


def _run_mechanism(connection: Connection, mechanism: AuthMechanism, secret: str) -> Reply:
    """Do the steps of ``mechanism``; return the last reply."""
    steps = _STEPS[mechanism](connection.relay, secret)
    name = mechanism.upper()
    initial = next(steps)
    if initial is None:
        reply = connection.command(f"AUTH {name}", Phase.AUTH)
    else:
        reply = _respond(connection, f"AUTH {name} ", initial, secret)
    while reply.code == AUTH_CHALLENGE:
        try:
            response = steps.send(_decoded(reply.text))
        except StopIteration:
            return connection.command("*", Phase.AUTH)  # cancels (RFC 4954 section 4)
        reply = _respond(connection, "", response or b"", secret)
    return reply


def _respond(connection: Connection, prefix: str, response: bytes, secret: str) -> Reply:
    encoded = base64.b64encode(response).decode("ascii")
    # CRAM-MD5 sends a digest, with which others could guess the password offline.
    proof = response.decode().removeprefix(f"{connection.relay.username} ")
    connection.mask(secret, encoded, proof if len(response) > len(proof.encode()) else "")
    return connection.command(prefix + encoded, Phase.AUTH, shown=f"{prefix}***")


def _decoded(challenge: str) -> bytes:
    try:
        return base64.b64decode(challenge, validate=False)
    except ValueError:
        return b""


def _secret(relay: Relay) -> str:
    """Return the token or the password; the application may give a callable for it.

    Raises:
        AuthError: The callable raised, or returned no text. The error does not show what.
    """
    what = "token" if relay.token is not None else "password"
    try:
        secret: object = _read_secret(relay)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also `SystemExit` and cancellation, raised by the callable
        raise AuthError(
            f"the callable for the {what} of the relay {relay.name} raised {named(error)}",
            phase=Phase.AUTH,
        ) from error
    if not isinstance(secret, str) or not secret or not _is_text(secret):
        raise AuthError(
            f"the callable for the {what} of the relay {relay.name} must return text that is not "
            f"empty and has no lone surrogates; it returned {type(secret).__name__}",
            phase=Phase.AUTH,
        )
    return secret


def _read_secret(relay: Relay) -> str:
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
            f"the relay {relay.name} refused the credentials: {refusal}; check its user name, "
            "and its password or token",
            phase=Phase.AUTH,
            reply=refusal,
        )
    secret = "token" if relay.token is not None else "password"
    offered = " ".join(sorted(capabilities.auth_mechanisms))
    what = f"only {offered}, and none of them takes a {secret}" if offered else "no AUTH"
    return AuthError(
        f"the relay {relay.name} announces {what}; check the port, and whether the relay needs a "
        "login",
        phase=Phase.AUTH,
    )
