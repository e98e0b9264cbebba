"""A proof: one copy of a message exactly as it is sent, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from postroom.message.address import Address
from postroom.message.message import Draft
from postroom.message.mime import compose, message_id_for
from postroom.storage import message_store
from postroom.storage.message_store import OpenBlob
from postroom.storage.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedCopy:
    """One recipient's copy, rendered. ``to`` is None where everyone is named in the draft."""

    draft: Draft
    to: Address | None
    message_id: str

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes that go over the wire, which are also those of an ``.eml`` file."""
        content = compose(self.draft)
        yield content.head(to=self.to, message_id=self.message_id)
        yield from content.tail()


def rendered_copy(
    connection: Connection,
    tables: Tables,
    message_id: int,
    open_blob: OpenBlob,
    address: Address | None = None,
) -> RenderedCopy | None:
    """Return the copy of ``address``, or of the first recipient; None where there is no such one.

    Raises:
        MessageError: the content cannot be composed.
    """
    stored = message_store.load_messages(connection, tables, [message_id], open_blob).get(
        message_id
    )
    row = _recipient(connection, tables, message_id, address)
    if stored is None or row is None:
        return None
    draft = stored.draft.rendered(row.variables or {})
    own = None if stored.shared else row.id
    return RenderedCopy(
        draft=draft,
        to=None if stored.shared else _address(row),
        message_id=message_id_for(draft.message_id_seed, own, draft.sender),
    )


def _recipient(
    connection: Connection, tables: Tables, message_id: int, address: Address | None
) -> Row[Any] | None:
    recipient = tables.recipient
    wanted = (
        select(*(recipient.c[name] for name in ("id", "address", "name", "variables")))
        .where(recipient.c.message_id == message_id)
        .order_by(recipient.c.id)
        .limit(1)
    )
    if address is not None:
        wanted = wanted.where(recipient.c.address_key == address.dedup_key)
    return connection.execute(wanted).first()


def _address(row: Row[Any]) -> Address:
    local, _, domain = row.address.rpartition("@")
    return Address.from_parts(local=local, domain=domain, name=row.name)
