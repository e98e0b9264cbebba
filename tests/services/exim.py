"""An Exim of our own, as a relay that keeps what it accepts in its queue.

Debian's package cannot stand beside Postfix: where no Exim is installed, the package is fetched
and unpacked without installing it, and its user is made up for it alone (nss_wrapper).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.services.daemon import Daemon
from tests.services.programs import find, refuse
from tests.services.waiting import free_port, listens

_CACHE = Path(__file__).parents[2] / ".cache" / "exim"
_PACKAGES = ("exim4-daemon-light", "libnss-wrapper")
_FETCH_S = 120
#: Nobody's; exim runs as this user once it listens.
_USER_ID = 65_533

_CONFIG = """\
primary_hostname = relay.example.com
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/exim.pid
keep_environment = LD_PRELOAD : LD_LIBRARY_PATH : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
local_interfaces = <; 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts = *
tls_certificate = {certificate}
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
pipelining_advertise_hosts = *
{settings}smtp_accept_queue_per_connection = 0
smtp_receive_timeout = 30s
message_size_limit = 1M
queue_only
host_lookup =
helo_lookup_domains =
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
rcpt:
  deny message = Unknown user
       local_parts = unknown
  defer message = Greylisted, please try again in 300 seconds
       local_parts = later
  accept domains = example.com : example.net
  accept authenticated = *
  deny message = relay not permitted
data:
  deny message = This message looks like spam
       condition = ${{if match{{$h_subject:}}{{spam}}}}
  accept
begin routers
begin transports
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{{user}}}}}{{eq{{$auth3}}{{{password}}}}}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if and{{{{eq{{$auth1}}{{{user}}}}}{{eq{{$auth2}}{{{password}}}}}}}}}
  server_set_id = $auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{{user}}}{{{password}}}fail}}
  server_set_id = $auth1
"""


_SETTINGS = {"smtp_accept_max": "0", "recipients_max": "5"}
_ENVELOPE = re.compile(r"^\d+\n((?:\S+@\S+\n)+)", re.MULTILINE)


class Exim:
    """An instance with its own configuration and queue; ``certificate`` holds its key too.

    ``settings`` replace or join the limits that it has otherwise.

    It takes mail for example.com and example.net, and for whoever logs in; ``unknown@…`` is
    refused, ``later@…`` deferred. Nothing ever leaves the queue.
    """

    def __init__(
        self,
        certificate: Path,
        *,
        user: str = "user",
        password: str = "pa55word",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("Exim's daemon is started by root only")
        program, environment = _program()
        self._daemon = Daemon("exim")
        self.folder = self._daemon.folder
        self.folder.chmod(0o755)
        self.port = free_port()
        owner = _owner(environment, self.folder)
        (self.folder / "spool").mkdir()
        for place in (self.folder, self.folder / "spool"):
            os.chown(place, owner, owner)
        config = self.folder / "exim.conf"
        chosen = _SETTINGS | dict(settings or {})
        config.write_text(
            _CONFIG.format(
                settings="".join(f"{name} = {value}\n" for name, value in chosen.items()),
                folder=self.folder,
                port=self.port,
                certificate=certificate,
                user=user,
                password=password,
            )
        )
        variables = [f"{name}={value}" for name, value in environment.items()]
        self._daemon.start(
            "env",
            *variables,
            program,
            "-C",
            str(config),
            "-bdf",
            is_ready=lambda: listens(self.port),
        )

    def received(self) -> list[str]:
        """Return the messages in the queue, envelope and header lines before each body."""
        queue = self.folder / "spool" / "input"
        heads = sorted(queue.glob("*-H"), key=lambda path: path.stat().st_mtime_ns)
        return [
            head.read_text("utf-8", "replace")
            + head.with_name(head.name[:-1] + "D").read_text("utf-8", "replace")
            for head in heads
        ]

    def recipients(self) -> list[str]:
        """Return whom the mails in the queue are for, oldest first."""
        return [one for mail in self.received() for one in _ENVELOPE.findall(mail)[0].split()]

    def log(self) -> str:
        """Return what Exim wrote to its log of mail and refusals."""
        return (self.folder / "mainlog").read_text("utf-8", "replace")

    def remove(self) -> None:
        """Stop the instance and forget its mail."""
        self._daemon.remove()


def _program() -> tuple[str, dict[str, str]]:
    """Return exim, and the environment that the unpacked one needs."""
    if installed := find("exim4"):
        return str(installed), {}
    if not _CACHE.is_dir() and not _fetched():
        refuse("exim4")
    [wrapper] = _CACHE.glob("usr/lib/*/libnss_wrapper.so")
    environment = {"LD_LIBRARY_PATH": str(wrapper.parent), "LD_PRELOAD": str(wrapper)}
    return str(_CACHE / "usr" / "sbin" / "exim4"), environment


def _fetched() -> bool:
    """Fetch and unpack the packages, at once: another run may do the same.

    Returns whether they are there.
    """
    scratch = _CACHE.with_suffix(f".{os.getpid()}")
    archives = scratch / "archives"
    (archives / "partial").mkdir(parents=True)
    command = [
        *("apt-get", "install", "--download-only", "--yes", "--quiet"),
        *("-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1"),
        *("-o", "APT::Install-Recommends=0", "-o", "APT::Sandbox::User=root", *_PACKAGES),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_FETCH_S)
        for archive in archives.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", archive, scratch], check=True, capture_output=True)
        shutil.rmtree(archives)
        scratch.rename(_CACHE)
    except (OSError, subprocess.SubprocessError):
        shutil.rmtree(scratch, ignore_errors=True)
    return _CACHE.is_dir()


def _owner(environment: dict[str, str], folder: Path) -> int:
    """Return the id of the user that exim becomes; make that user up where it is missing."""
    if not environment:
        return Path("/var/spool/exim4").stat().st_uid
    for name, line in (
        ("passwd", f"Debian-exim:x:{_USER_ID}:{_USER_ID}::/nonexistent:/bin/false\n"),
        ("group", f"Debian-exim:x:{_USER_ID}:\n"),
    ):
        made_up = folder / name
        made_up.write_text(Path("/etc", name).read_text() + line)
        environment[f"NSS_WRAPPER_{name.upper()}"] = str(made_up)
    return _USER_ID
