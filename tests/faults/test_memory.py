"""What is large is never whole in memory, neither at enqueue nor at delivery."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Outbox
from tests.services.postfix import SmtpSink

#: What a process may take beside Python and its libraries.
GROWTH_MB = 85
#: The long form's limit, all in all.
LIMIT_MB = 256

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("what", "count", "full_count", "recipients"),
    [("attachment", 100, 200, 2), ("variables", 4_000, 10_000, None)],
)
def test_large_mail_is_never_whole_in_memory(
    engine: Engine,
    smtp_sink: SmtpSink,
    tmp_path: Path,
    full: bool,
    what: str,
    count: int,
    full_count: int,
    recipients: int | None,
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    relay = f"smtp://127.0.0.1:{smtp_sink.port}?tls=off"
    count = full_count if full else count
    for step in (what, "worker"):
        command = [sys.executable, "-m", "tests.faults.large_mail", url, relay, step]
        told = subprocess.run(
            [*command, str(count)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
            capture_output=True,
            text=True,
            check=True,
        )
        before, peak = map(int, told.stdout.split())
        print(f"{what} {count}, {step}: {before} MB before, {peak} MB at the peak")
        assert peak - before <= GROWTH_MB
        assert peak <= LIMIT_MB
    with Session(engine) as session:
        by_state = Outbox(relay, engine=engine).stats(session).by_state
    assert by_state == {"accepted": recipients or count}
