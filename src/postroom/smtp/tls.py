"""TLS as a relay's options ask for it."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

from postroom.values.errors import TLSError
from postroom.values.relay import Relay
from postroom.values.relay_options import Tls
from postroom.values.states import Phase

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def context_for(relay: Relay) -> ssl.SSLContext:
    """Return the TLS settings for ``relay``.

    Made once: reading the system's authorities takes longer than sending a hundred mails. Made
    again when a file it was made from is renewed.

    Raises:
        TLSError: a certificate, key or CA file cannot be used.
    """
    files = (relay.ca, relay.cert, relay.key)
    try:
        renewed = tuple(Path(file).stat().st_mtime_ns if file else 0 for file in files)
        return _context(relay.tls, relay.min_tls, files, renewed)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(file for file in files if file)
        raise TLSError(
            f"expected ca=, cert= and key= of the relay {relay.name} to be readable PEM files, "
            f"got: {error} ({named})",
            phase=Phase.STARTTLS,
        ) from error


@lru_cache(maxsize=32)
def _context(
    tls: Tls, min_tls: str, files: tuple[str | None, ...], renewed: tuple[int, ...]
) -> ssl.SSLContext:
    del renewed  # part of the key only
    ca, cert, key = files
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = _VERSIONS[min_tls]
    if tls is Tls.OPPORTUNISTIC:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        # An encrypted key would otherwise ask for its password on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    return context


def explain(error: Exception, relay: Relay) -> str:
    """Return in words why a TLS handshake failed, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"expected a certificate for {relay.host} that we can verify, got: "
            f"{error.verify_message}; for an authority of your own give its file as ca=FILE"
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return (
            f"expected TLS from {relay.host}:{relay.port}, got: clear text; a port that begins "
            "in clear text (25, 587) wants smtp://, one that begins with TLS (465) smtps://"
        )
    reason = getattr(error, "reason", None) or error
    return f"expected a TLS handshake with {relay.host}:{relay.port}, got: {reason}"
