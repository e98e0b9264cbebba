"""``fanout``: an attachment of 5 MB to 200 recipients, and what it takes of memory."""

from __future__ import annotations

from random import Random

from bench.harness import letters, limit, ours, verdicts
from bench.harness.contest import Series, hold
from bench.harness.databases import Servers, sqlite
from bench.harness.options import Options
from bench.harness.report import Bar, Report
from postroom import Attachment

NAME = "fanout"
OURS = ("Postroom, PostgreSQL", "Postroom, SQLite")

_ATTACHMENT_BYTES = 5_000_000
_MEMORY = "peak over idle MB"

_EXPLANATION = """\
One message with an attachment of 5 MB, enqueued to many recipients, a copy of its own for each.
The attachment is stored once, and read and encoded on the way out. Idle is the worker process
connected and waiting; its peak is what the kernel counts (VmHWM)."""


def run(options: Options) -> Report:
    """Measure ours on both databases beside the limit at the same size."""
    count = options.size(full=200, short=50)
    attachment = Attachment.from_bytes("report.pdf", Random(1).randbytes(_ATTACHMENT_BYTES))
    job = ours.Job(
        count=count,
        enqueue=ours.enqueue_one(
            letters.message(attachments=[attachment]), letters.addresses(count)
        ),
    )
    # Base64 in lines of 76 characters and CRLF.
    size_bytes = letters.size_bytes() + -(-_ATTACHMENT_BYTES // 57) * 78
    with Servers() as servers:
        series = hold(
            [
                limit.smtp_source(count, size_bytes),
                ours.contender(OURS[0], servers.postgresql, job),
                ours.contender(OURS[1], sqlite, job),
            ],
            options.rounds,
        )
    return Report(
        name=NAME,
        title="a large attachment to many recipients",
        explanation=_EXPLANATION,
        headline="msg/s",
        parameters={"recipients": count, "bytes a copy": size_bytes, "rounds": options.rounds},
        series=series,
        bars=[*verdicts.beside(series, OURS, limit.NAME, least=0.7), *_memory(series)],
    )


def _memory(series: list[Series]) -> list[Bar]:
    return [
        Bar(what=f"{one.name}: {_MEMORY}", value=max(one.values(_MEMORY)), most=48)
        for one in series
        if one.has(_MEMORY)
    ]
