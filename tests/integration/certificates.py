"""Certificates for the relays of the tests, by an authority of our own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """An authority, and the file that makes others trust it."""

    made: trustme.CA
    file: Path

    @classmethod
    def create(cls, folder: Path, name: str = "ca.pem") -> Authority:
        made = trustme.CA()
        file = folder / name
        made.cert_pem.write_to_path(file)
        return cls(made=made, file=file)

    def server(self, *names: str) -> ssl.SSLContext:
        """Return the TLS settings of a server with a certificate for ``names``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.made.issue_cert(*names or ("127.0.0.1",)).configure_cert(context)
        return context

    def client_certificate(self, folder: Path) -> Path:
        """Return a file with a client's certificate and key."""
        issued = self.made.issue_cert("shop@example.com")
        file = folder / "client.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(file)
        return file
