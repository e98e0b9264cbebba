"""Proofs for ``preview``: of a stored message, or of what templates would make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from postroom.cli.composition import context_of, templated
from postroom.cli.errors import not_found
from postroom.cli.opening import opened
from postroom.settings import Settings
from postroom.storage import blobs
from postroom.storage.models import tables
from postroom.storage.proofs import Proof, stored_proof
from postroom.storage.spool import spooled
from postroom.values.address import Address
from postroom.values.attachment import Attachment
from postroom.values.drafting import Occasion, drafted
from postroom.values.mime import message_id_for
from postroom.values.template import Templates

#: A proof is not sent: it needs a sender, a receiver and a Message-ID, but nobody's.
_SENDER = Address.parse("sender@example.com")
_RECEIVER = Address.parse("recipient@example.com")
_TOKEN = "0" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Templates by their common name, and what they are given."""

    name: str
    context: Path | None
    locale: str | None
    inline: Sequence[Path]

    def files(self) -> tuple[Path, ...]:
        """Return the files and folders that the proof is made of."""
        context = () if self.context is None else (self.context,)
        return (*Settings.load().templates, *context, *self.inline)


@contextmanager
def of_stored(message_id: int, to: str | None) -> Iterator[Proof]:
    """Yield the copy of ``to``, or of the first recipient.

    Raises:
        CommandError: there is no such message, or no such recipient of it.
    """
    with opened() as desk, desk.reading() as connection:
        ours = tables(desk.settings.database_schema)
        proof = stored_proof(
            connection,
            ours,
            message_id,
            partial(blobs.read, desk.engine, ours),
            None if to is None else Address.parse(to),
        )
        if proof is None:
            raise not_found(message_id, to)
        yield proof


@contextmanager
def of_templates(sample: Sample, to: str | None) -> Iterator[Proof]:
    """Yield what the templates make, with the settings' folders; no database is used.

    Raises:
        TemplateError: a template is missing or fails; the text names file and line.
    """
    settings = Settings.load()
    message = templated(sample.name, context_of(sample.context), sample.locale)
    occasion = Occasion(
        sender=Address.parse(settings.sender) if settings.sender else _SENDER,
        templates=Templates.of(settings.templates, inline_css=settings.inline_css),
        token=_TOKEN,
        date=datetime.now(UTC),
    )
    pictures = [Attachment.inline(path) for path in sample.inline]
    with spooled(pictures, settings.max_message_bytes) as files:
        parts = [file.part for file in files]
        draft = drafted(message, occasion, parts=parts, has_variables=False)
        yield Proof(
            draft=draft,
            to=_RECEIVER if to is None else Address.parse(to),
            message_id=message_id_for(draft.token, None, draft.sender),
        )
