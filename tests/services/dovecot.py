"""Dovecot's LMTP server, which answers the final dot for each recipient."""

from __future__ import annotations

import os
import pwd

import pytest

from tests.services.daemon import Daemon
from tests.services.programs import require
from tests.services.waiting import free_port, listens

_CONFIG = """\
protocols = lmtp
base_dir = {folder}/run
log_path = {folder}/dovecot.log
ssl = no
mail_location = maildir:~/
mail_plugins = quota
auth_username_format = %Ln
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = {folder}/users
}}
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=10M
}}
mailbox_list_index = yes
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service anvil {{
  chroot =
}}
"""


class Dovecot:
    """An instance with a mailbox for each of ``users``; the one named ``full`` takes nothing more.

    Everybody else is refused.
    """

    def __init__(self, *users: str) -> None:
        program = str(require("dovecot"))
        if os.geteuid() != 0:
            pytest.skip("Dovecot's master process runs as root only")
        owner = pwd.getpwnam("mail")
        self._daemon = Daemon("dovecot")
        self._folder = self._daemon.folder
        self._folder.chmod(0o755)
        self.port = free_port()
        lines = []
        for user in users:
            home = self._folder / "mail" / user
            home.mkdir(parents=True)
            os.chown(home, owner.pw_uid, owner.pw_gid)
            rule = "userdb_quota_rule=*:bytes=10" if user == "full" else ""
            lines.append(f"{user}:{{PLAIN}}x:{owner.pw_uid}:{owner.pw_gid}::{home}::{rule}\n")
        (self._folder / "users").write_text("".join(lines))
        config = self._folder / "dovecot.conf"
        config.write_text(_CONFIG.format(folder=self._folder, port=self.port))
        self._daemon.start(program, "-F", "-c", str(config), is_ready=lambda: listens(self.port))

    def received(self, user: str) -> list[str]:
        """Return the mails in the mailbox of ``user``."""
        new = self._folder / "mail" / user / "new"
        return [file.read_text("utf-8", "replace") for file in sorted(new.glob("*"))]

    def log(self) -> str:
        """Return what Dovecot wrote to its log."""
        return (self._folder / "dovecot.log").read_text()

    def remove(self) -> None:
        """Stop it and forget its mail."""
        self._daemon.remove()
