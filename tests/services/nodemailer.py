"""nodemailer's ``smtp-server``, as a relay that keeps what it accepts."""

from __future__ import annotations

from pathlib import Path

from tests.services.daemon import Daemon
from tests.services.node import modules
from tests.services.waiting import free_port, listens

_PACKAGE = Path(__file__).with_name("smtp_server")


class NodeSmtpServer:
    """An instance; ``certificate`` holds its key too.

    It takes mail for example.com and example.net, and for whoever logs in; ``unknown@…`` is
    refused.
    """

    def __init__(self, certificate: Path, *, user: str, password: str) -> None:
        node, packages = modules(_PACKAGE)
        self._daemon = Daemon("smtp-server")
        self.port = free_port()
        self._kept = self._daemon.folder / "kept"
        self._kept.mkdir()
        self._daemon.start(
            "env",
            f"NODE_PATH={packages}",
            node,
            str(_PACKAGE / "serve.cjs"),
            str(self.port),
            str(certificate),
            user,
            password,
            str(self._kept),
            is_ready=lambda: listens(self.port),
        )

    def received(self) -> list[str]:
        """Return the messages accepted, oldest first, envelope before each."""
        return [file.read_text("utf-8", "replace") for file in sorted(self._kept.glob("*.eml"))]

    def remove(self) -> None:
        """Stop it and forget its mail."""
        self._daemon.remove()
