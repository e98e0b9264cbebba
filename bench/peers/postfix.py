"""Postfix as a queue: it takes mail, stores each in a file, and hands it to the relay."""

from __future__ import annotations

import os
import subprocess
import time

from bench.harness import letters, limit
from bench.harness.contest import Absent, Contender, Figures
from tests.services.postfix import Postfix
from tests.services.programs import find

NAME = "Postfix as a queue"

_QUEUES = ("maildrop", "incoming", "active", "deferred")
_NOTE = (
    "filled by `smtp-source -s 10 -d -N` while it delivers over kept connections, "
    "`in_flow_delay = 0`, 50 deliveries at once (TUNING_README)"
)


def contender(count: int) -> Contender:
    """Return Postfix as a contender: from the first mail in to the last one out."""

    def run() -> Figures:
        if find("postfix") is None or os.geteuid() != 0:
            raise Absent("Postfix is missing or may not run; as root: apt-get install postfix")
        with limit.sink() as port:
            postfix = Postfix(_settings(port))
            try:
                elapsed_s = _through(postfix, count)
                sent = postfix.log().count("status=sent")
            finally:
                postfix.remove()
        if sent != count:
            raise RuntimeError(f"{NAME} sent {sent} of {count} mails")
        return {"msg/s": count / elapsed_s, "whole msg/s": count / elapsed_s}

    return Contender(name=NAME, run=run, note=_NOTE)


def _settings(port: int) -> dict[str, str]:
    return {
        "relayhost": f"[127.0.0.1]:{port}",
        "default_transport": "smtp",
        "virtual_mailbox_domains": "",
        "virtual_mailbox_maps": "",
        "mynetworks": "127.0.0.0/8",
        "smtpd_recipient_restrictions": "permit_mynetworks, reject",
        "smtp_dns_support_level": "disabled",
        "in_flow_delay": "0",
        "default_destination_concurrency_limit": "50",
        "initial_destination_concurrency": "50",
        "smtp_connection_cache_destinations": "127.0.0.1",
    }


def _through(postfix: Postfix, count: int) -> float:
    """Send mails in, and wait until none is left; return how many seconds that took."""
    amount = ("-s", "10", "-d", "-m", str(count), "-l", str(letters.size_bytes()))
    addresses = ("-N", "-f", "shop@example.com", "-t", "customer@example.net")
    program = find("smtp-source")
    assert program is not None, "it comes with Postfix"
    started = time.perf_counter()
    subprocess.run([program, *amount, *addresses, f"127.0.0.1:{postfix.port}"], check=True)
    while any(_files(postfix)):
        time.sleep(0.05)
    return time.perf_counter() - started


def _files(postfix: Postfix) -> list[str]:
    """Return the files in which Postfix keeps mail."""
    queue = postfix.folder / "queue"
    return [name for kind in _QUEUES for _, _, files in os.walk(queue / kind) for name in files]
