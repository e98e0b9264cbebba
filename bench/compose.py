"""``compose``: from a message to its bytes, beside the standard library's ``EmailMessage``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from random import Random

from bench.harness import letters
from bench.harness.contest import Contender, Figures, Series, hold, ratio
from bench.harness.options import Options
from bench.harness.report import Bar, Report
from postroom.message.address import Address
from postroom.message.message import Disposition, Draft, StoredAttachment
from postroom.message.mime import compose

NAME = "compose"

_MB = 1_000_000
_CHUNK_BYTES = 256 * 1024
_DATE = datetime(2026, 1, 1, 12, tzinfo=UTC)
_TO = letters.address(1)
_SHORTEST_S = 1.0

_EXPLANATION = """\
One message from its parts to the bytes on the wire, in one thread: text and HTML, and the same
with an attachment of 5 MB. `EmailMessage` is the standard library's, used as its documentation
shows, flattened for SMTP. Both write every header that a mail needs, Date and Message-ID included;
ours composes anew each time, as for a message seen for the first time."""


def run(options: Options) -> Report:
    """Measure both writers on both messages."""
    shortest_s = 0.3 if options.short else _SHORTEST_S
    attachment = Random(1).randbytes(5 * _MB)
    tasks: dict[str, tuple[Callable[[], int], Callable[[], int]]] = {
        "text + HTML": (
            lambda: written_by_us(None),
            lambda: written_by_standard_library(None),
        ),
        "5 MB attachment": (
            lambda: written_by_us(attachment),
            lambda: written_by_standard_library(attachment),
        ),
    }
    contenders = [
        _contender(f"{writer}, {task}", write, shortest_s)
        for task, writers in tasks.items()
        for writer, write in zip(("Postroom", "EmailMessage"), writers, strict=True)
    ]
    series = hold(contenders, options.rounds)
    return Report(
        name=NAME,
        title="a message to its bytes",
        explanation=_EXPLANATION,
        headline="us/msg",
        parameters={"rounds": options.rounds, "seconds a run, at least": shortest_s},
        series=series,
        bars=[_bar(series, "text + HTML", 30), _bar(series, "5 MB attachment", 4)],
    )


def _bar(series: list[Series], task: str, least: float) -> Bar:
    named = {one.name: one for one in series}
    ours, theirs = named[f"Postroom, {task}"], named[f"EmailMessage, {task}"]
    return Bar(what=f"{task}: times EmailMessage", value=ratio(theirs, ours, "us/msg"), least=least)


def _contender(name: str, write: Callable[[], int], shortest_s: float) -> Contender:
    def measured() -> Figures:
        size_bytes = write()
        times, started = 0, time.perf_counter()
        while (elapsed_s := time.perf_counter() - started) < shortest_s:
            write()
            times += 1
        return {
            "us/msg": elapsed_s / times * 1e6,
            "msg/s": times / elapsed_s,
            "MB/s": times * size_bytes / elapsed_s / _MB,
        }

    return Contender(name=name, run=measured, is_ours=name.startswith("Postroom"))


def written_by_us(attachment: bytes | None) -> int:
    """Compose the message; return how many bytes it has on the wire."""
    content = compose(
        Draft(
            message_id_seed="0123456789abcdef" * 2,
            date=_DATE,
            sender=Address(letters.SENDER),
            subject=letters.SUBJECT,
            text=letters.TEXT,
            html=letters.HTML,
            attachments=() if attachment is None else (_part(attachment),),
        )
    )
    head = content.head(to=Address(_TO), message_id="<1.2@example.com>")
    return len(head) + sum(map(len, content.tail()))


def _part(attachment: bytes) -> StoredAttachment:
    def chunks() -> Iterator[bytes]:
        for start in range(0, len(attachment), _CHUNK_BYTES):
            yield attachment[start : start + _CHUNK_BYTES]

    return StoredAttachment(
        filename="report.pdf",
        content_type="application/pdf",
        disposition=Disposition.ATTACHMENT,
        content_id=None,
        size_bytes=len(attachment),
        open=chunks,
    )


def written_by_standard_library(attachment: bytes | None) -> int:
    """Build and flatten the same with ``EmailMessage``; return how many bytes it has."""
    message = EmailMessage()
    message["Date"] = format_datetime(_DATE)
    message["From"] = letters.SENDER
    message["To"] = _TO
    message["Message-ID"] = "<1.2@example.com>"
    message["Subject"] = letters.SUBJECT
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letters.TEXT)
    message.add_alternative(letters.HTML, subtype="html")
    if attachment is not None:
        message.add_attachment(
            attachment, maintype="application", subtype="pdf", filename="report.pdf"
        )
    return len(message.as_bytes(policy=SMTP))
