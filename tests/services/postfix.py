"""A Postfix of our own, as a relay that keeps what it accepts, and its two load programs."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.services.daemon import Daemon
from tests.services.programs import require
from tests.services.waiting import free_port, listens

#: Where every accepted mail ends: in one maildir, whoever it was for.
DOMAINS = ("example.com", "example.net", "bücher.example", "xn--bcher-kva.example")

#: Who listens: smtpd itself, or postscreen before it.
_SMTPD = "127.0.0.1:{port} inet n - n - - smtpd\n"
_POSTSCREEN = """\
127.0.0.1:{port} inet n - n - 1 postscreen
smtpd     pass  - - n - - smtpd
dnsblog   unix  - - n - 0 dnsblog
tlsproxy  unix  - - n - 0 tlsproxy
"""
_MASTER = """\
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
local     unix  - n n - - local
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
tlsmgr    unix  - - n 1000? 1 tlsmgr
postlog   unix-dgram n - n - 1 postlogd
pickup    unix  n - n 60 1 pickup
"""


_ORIGINAL = re.compile(r"^X-Original-To: (.*)$", re.MULTILINE)


class Postfix:
    """An instance with its own configuration and queue; ``settings`` go into main.cf.

    It accepts mail for `DOMAINS` and stores it in a maildir; ``unknown@…`` is refused with
    550 5.1.1, and nothing ever leaves the machine. Where it ``screens``, postscreen holds every
    client to its deep protocol tests, this machine too.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, *, screens: bool = False) -> None:
        self._program = str(require("postfix"))
        if os.geteuid() != 0:
            pytest.skip("Postfix's master process runs as root only")
        self._daemon = Daemon("postfix")
        self._daemon.folder.chmod(0o755)
        self.port = free_port()
        self.folder = self._daemon.folder
        self.maildir = self.folder / "mail" / "all"
        self._screens = screens
        self._configure(settings or {})
        self.start()

    def _configure(self, settings: Mapping[str, str]) -> None:
        owner = pwd.getpwnam("postfix")
        for name in ("config", "queue", "state", "mail"):
            (self.folder / name).mkdir()
        for name in ("state", "mail"):
            os.chown(self.folder / name, owner.pw_uid, owner.pw_gid)
        mailboxes = "\n".join(f"@{domain} all/" for domain in DOMAINS)
        self._write("mailboxes", mailboxes)
        self._write("refused", "/^unknown@/ 550 5.1.1 User unknown\n")
        listens = _POSTSCREEN if self._screens else _SMTPD
        self._write("master.cf", listens.format(port=self.port) + _MASTER)
        values = self._defaults(owner) | dict(settings)
        self._write("main.cf", "".join(f"{name} = {value}\n" for name, value in values.items()))

    def _write(self, name: str, text: str) -> None:
        (self.folder / "config" / name).write_text(text)

    def _defaults(self, owner: pwd.struct_passwd) -> dict[str, str]:
        config = self.folder / "config"
        return {
            "compatibility_level": "3.6",
            "queue_directory": str(self.folder / "queue"),
            "data_directory": str(self.folder / "state"),
            "maillog_file": str(self.folder / "maillog"),
            "maillog_file_prefixes": str(self.folder),
            "myhostname": "relay.example.com",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "mydestination": "",
            "alias_maps": "",
            "alias_database": "",
            "smtputf8_enable": "yes",
            "default_transport": "error:5.7.1 nothing leaves this machine",
            "smtpd_recipient_restrictions": (
                f"check_recipient_access regexp:{config}/refused, reject_unauth_destination"
            ),
            "virtual_mailbox_domains": " ".join(DOMAINS),
            "virtual_mailbox_maps": f"texthash:{config}/mailboxes",
            "virtual_mailbox_base": str(self.folder / "mail"),
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            "smtpd_client_connection_count_limit": "0",
            "postscreen_access_list": "",
            "postscreen_greet_wait": "1s",
            "postscreen_pipelining_enable": "yes",
            "postscreen_pipelining_action": "enforce",
            "postscreen_non_smtp_command_enable": "yes",
            "postscreen_non_smtp_command_action": "enforce",
            "postscreen_bare_newline_enable": "yes",
            "postscreen_bare_newline_action": "enforce",
        }

    def start(self) -> None:
        """Start the instance, and return when it listens."""
        self._daemon.start(
            self._program,
            "-c",
            str(self.folder / "config"),
            "start-fg",
            is_ready=lambda: listens(self.port),
        )

    def stop(self) -> None:
        """Stop the instance; its queue and maildir stay."""
        self._daemon.stop(signal.SIGTERM)

    def received(self) -> list[Path]:
        """Return the files of the mails that were delivered, oldest first."""
        return sorted((self.maildir / "new").glob("*"), key=lambda path: path.stat().st_mtime_ns)

    def recipients(self) -> list[str]:
        """Return whom each mail that was delivered was for, oldest first."""
        texts = (path.read_text("utf-8", "replace") for path in self.received())
        return [_ORIGINAL.findall(text)[0] for text in texts]

    def log(self) -> str:
        """Return what Postfix wrote to its log."""
        return (self.folder / "maillog").read_text()

    def remove(self) -> None:
        """Stop the instance and forget its mail."""
        self._daemon.stop(signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)


class SmtpSink:
    """Postfix's ``smtp-sink``: accepts everything, as fast as it comes, and keeps nothing."""

    def __init__(self, *options: str) -> None:
        self._program = str(require("smtp-sink"))
        self._daemon = Daemon("smtp-sink", user="nobody")
        self.port = free_port()
        place = f"127.0.0.1:{self.port}"
        self._daemon.start(
            self._program, *options, place, "1000", is_ready=lambda: listens(self.port)
        )

    def remove(self) -> None:
        """Stop it."""
        self._daemon.remove()
