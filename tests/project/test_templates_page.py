"""The page on templates: its examples run, and show what it says they show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from postroom.errors import TemplateError
from postroom.message.address import Address
from postroom.message.attachment import Attachment
from postroom.message.draft import EnqueueContext, make_draft
from postroom.message.message import Disposition, Draft, Message, Recipient, StoredAttachment
from postroom.message.templates import Template, Templates
from tests.project.sources import ROOT
from tests.unit.templates import folder, html_of, text_of

PAGE = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

ORDER = {
    "number": "A-1001",
    "url": "https://shop.example/orders/A-1001",
    "lines": [{"quantity": 2, "title": "Tea <Assam>"}, {"quantity": 1, "title": "Cup"}],
}


@dataclass
class Recorder:
    """An outbox that composes at once what it is asked to enqueue."""

    templates: Templates
    drafts: list[Draft] = field(default_factory=list)

    def enqueue(self, _session: None, message: Message, *, to: Sequence[Recipient]) -> None:
        draft = self._draft(message, has_variables=True)
        self.drafts += [draft.rendered(one.variables or {}) for one in to]

    def add(self, message: Message) -> None:
        self.drafts.append(self._draft(message, has_variables=False))

    def _draft(self, message: Message, *, has_variables: bool) -> Draft:
        occasion = EnqueueContext(
            sender=Address("shop@example.com"),
            templates=self.templates,
            message_id_seed="0" * 32,
            date=datetime(2026, 3, 1, tzinfo=UTC),
        )
        parts = [part(attachment) for attachment in message.attachments]
        return make_draft(message, occasion, parts=parts, has_variables=has_variables)


def part(attachment: Attachment) -> StoredAttachment:
    return StoredAttachment(
        filename=attachment.filename,
        content_type="image/png",
        disposition=Disposition.INLINE,
        content_id="logo@shop",
        size_bytes=0,
        open=lambda: iter(()),
    )


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Return an outbox with the files that the page shows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "templates").mkdir()
    (tmp_path / "logo.png").write_bytes(b"")
    for _, path, content in FENCE.findall(PAGE):
        if path:
            (tmp_path / path).write_text(content, encoding="utf-8")
    return Recorder(Templates.of(tmp_path / "templates"))


def run(code: str, recorder: Recorder) -> Iterator[Draft]:
    """Run an example; yield what its messages became."""
    names: dict[str, Any] = {
        "Attachment": Attachment,
        "Message": Message,
        "Recipient": Recipient,
        "Template": Template,
        "date": date,
        "order": ORDER,
        "outbox": recorder,
        "session": None,
    }
    exec(code, names)  # our own page
    if "message" in names:
        recorder.add(names["message"])
    yield from recorder.drafts
    recorder.drafts.clear()


def test_the_examples_show_what_the_page_says(recorder: Recorder) -> None:
    results: Iterator[Draft] = iter(())
    for language, path, content in FENCE.findall(PAGE):
        if language == "python":
            assert next(results, None) is None
            results = run(content, recorder)
            if "inline" in content:
                assert next(results).html == '<img src="cid:logo@shop" alt="The shop">'
        elif language == "text" and not path:
            draft = next(results)
            assert f"{draft.subject}\n\n{draft.text}\n" == content
    assert next(results, None) is None


def rows(*, columns: int) -> list[tuple[str, ...]]:
    """Return what stands in backquotes in the tables of that many columns."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| `")]
    found = [tuple(re.findall(r"`([^`]+)`", line.replace(r"\|", "|"))) for line in lines]
    return [row for row in found if len(row) == columns]


@pytest.mark.parametrize(("_", "example", "shown"), rows(columns=3))
def test_the_filters_show_what_the_page_says(_: str, example: str, shown: str) -> None:
    placed_at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    rendered = text_of(Template.from_string(example, placed_at=placed_at))
    assert rendered.replace("\xa0", " ").replace("\u202f", " ") == shown


@pytest.mark.parametrize(("written", "error"), rows(columns=2))
def test_the_errors_are_those_that_the_page_shows(written: str, error: str) -> None:
    with pytest.raises(TemplateError, match=f"^{re.escape(error)}"):
        html_of(Template("order.html", name="Zoë"), folder(order_html=written))
