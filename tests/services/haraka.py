"""Haraka, as a relay that keeps what it accepts."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.services.daemon import Daemon
from tests.services.node import modules
from tests.services.waiting import free_port, listens

_PACKAGE = Path(__file__).with_name("haraka")


class Haraka:
    """An instance that takes mail for everybody but ``unknown@…``.

    As every Haraka since 3.3 it refuses commands that came with the final dot before them.
    """

    def __init__(self) -> None:
        node, packages = modules(_PACKAGE)
        self._daemon = Daemon("haraka")
        self.port = free_port()
        folder = self._daemon.folder
        self._kept = folder / "kept"
        self._kept.mkdir()
        shutil.copytree(_PACKAGE / "plugins", folder / "plugins")
        config = folder / "config"
        shutil.copytree(packages / "Haraka" / "config", config)
        usual = (config / "smtp.ini").read_text()
        (config / "smtp.ini").write_text(f"listen=127.0.0.1:{self.port}\nnodes=0\n{usual}")
        (config / "plugins").write_text("keep\n")
        (config / "me").write_text("relay.example.com\n")
        self._daemon.start(
            "env",
            f"HARAKA={folder}",
            f"KEPT={self._kept}",
            node,
            str(packages / "Haraka" / "haraka.js"),
            is_ready=lambda: listens(self.port),
        )

    def received(self) -> list[str]:
        """Return the messages accepted, oldest first, envelope before each."""
        return [file.read_text("utf-8", "replace") for file in sorted(self._kept.glob("*.eml"))]

    def recipients(self) -> list[str]:
        """Return whom the mails that were accepted were for, oldest first."""
        envelopes = (text.partition("\n")[0] for text in self.received())
        return [one for line in envelopes for one in line.removeprefix("Envelope-To: ").split()]

    def log(self) -> str:
        """Return what Haraka wrote to its log."""
        return self._daemon.log.read_text("utf-8", "replace")

    def remove(self) -> None:
        """Stop it and forget its mail."""
        self._daemon.remove()
