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
    refused. No more than ``max_clients`` at a time are let in; 0: as many as come.
    """

    def __init__(
        self,
        certificate: Path,
        *,
        user: str = "user",
        password: str = "pa55word",
        max_clients: int = 0,
    ) -> None:
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
            str(max_clients),
            is_ready=lambda: listens(self.port),
        )

    def received(self) -> list[str]:
        """Return the messages accepted, oldest first, envelope before each."""
        return [file.read_text("utf-8", "replace") for file in sorted(self._kept.glob("*.eml"))]

    def recipients(self) -> list[str]:
        """Return whom the mails that were accepted were for, oldest first."""
        envelopes = (text.partition("\n")[0] for text in self.received())
        return [one for line in envelopes for one in line.removeprefix("Envelope-To: ").split()]

    def refused(self) -> int:
        """Return how many connections were refused because there were too many."""
        return self._daemon.log.read_text().count("Too many connected clients")

    def remove(self) -> None:
        """Stop it and forget its mail."""
        self._daemon.remove()
