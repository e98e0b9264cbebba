"""Attachments are stored once, streamed both ways, and read back byte for byte."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from postroom.errors import AttachmentError, MessageTooLarge
from postroom.message.attachment import Attachment, Disposition
from postroom.message.message import Draft, Message
from postroom.storage import attachments, message_store
from postroom.storage.engine import write_transaction
from postroom.storage.enqueue import enqueue
from postroom.storage.enqueue_request import EnqueueRequest, OutboxDefaults, Receipt
from postroom.storage.tables import CHUNK_BYTES, Tables
from tests.integration.rival import Rival

CONTENT = os.urandom(CHUNK_BYTES * 5 + 7)
DEFAULTS = OutboxDefaults()


def order(*attachments: Attachment) -> EnqueueRequest:
    message = Message(sender="shop@example.com", attachments=attachments)
    return EnqueueRequest(message=message, to=["ann@example.com"])


def post(engine: Engine, tables: Tables, *attachments: Attachment) -> Receipt:
    with Session(engine) as session, session.begin():
        return enqueue(session, tables, order(*attachments), DEFAULTS)


def stored(engine: Engine, tables: Tables, receipt: Receipt) -> Draft:
    with engine.connect() as connection:
        found = message_store.load_messages(
            connection,
            tables,
            [receipt.message_id],
            lambda name: attachments.read_blob(engine, tables, name),
        )
    return found[receipt.message_id].draft


def counts(engine: Engine, tables: Tables) -> tuple[int, int, int]:
    with engine.connect() as connection:
        blob, chunk, attachment = (
            connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (tables.blob, tables.blob_chunk, tables.attachment)
        )
    return blob, chunk, attachment


def test_an_attachment_reads_back_as_often_as_one_likes(engine: Engine, tables: Tables) -> None:
    draft = stored(engine, tables, post(engine, tables, Attachment.from_bytes("a.bin", CONTENT)))
    (part,) = draft.attachments
    assert (part.filename, part.size_bytes) == ("a.bin", len(CONTENT))
    assert b"".join(part.open()) == b"".join(part.open()) == CONTENT
    assert max(len(chunk) for chunk in part.open()) == CHUNK_BYTES


def test_what_kind_of_part_it_is_reads_back_too(engine: Engine, tables: Tables) -> None:
    receipt = post(
        engine,
        tables,
        Attachment.from_bytes("logo.png", b"x", cid="logo"),
        Attachment.calendar("BEGIN:VCALENDAR"),
        Attachment.from_bytes("empty.txt", b""),
    )
    logo, invitation, empty = stored(engine, tables, receipt).attachments
    assert (logo.disposition, logo.content_id) == (Disposition.INLINE, "logo")
    assert invitation.disposition is Disposition.ALTERNATIVE
    assert invitation.content_type == "text/calendar; method=REQUEST; charset=utf-8"
    assert (empty.size_bytes, list(empty.open())) == (0, [])


def test_the_same_bytes_are_stored_once(engine: Engine, tables: Tables) -> None:
    for name in ("a.bin", "b.bin"):
        post(engine, tables, Attachment.from_bytes(name, CONTENT), Attachment.csv("c", [[1]]))
    post(engine, tables, *[Attachment.from_bytes("twice", CONTENT)] * 2)
    assert counts(engine, tables) == (2, 7, 6)


def test_the_file_may_change_and_vanish_once_it_is_enqueued(
    engine: Engine, tables: Tables, tmp_path: os.PathLike[str]
) -> None:
    path = f"{tmp_path}/a.bin"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(CONTENT)
    receipt = post(engine, tables, Attachment.from_path(path))
    os.unlink(path)  # noqa: PTH108
    (part,) = stored(engine, tables, receipt).attachments
    assert b"".join(part.open()) == CONTENT


def test_two_transactions_that_store_the_same_bytes_at_once_store_them_once(
    engine: Engine, tables: Tables
) -> None:
    attachment = Attachment.from_bytes("b.bin", CONTENT)
    second = Rival(engine, lambda: post(engine, tables, attachment))
    with Session(engine) as session, session.begin():
        enqueue(session, tables, order(Attachment.from_bytes("a.bin", CONTENT)), DEFAULTS)
        second.start()
    second.finish()
    assert counts(engine, tables) == (1, 6, 2)


def test_bytes_that_another_transaction_gave_up_are_stored_here(
    engine: Engine, tables: Tables
) -> None:
    attachment = Attachment.from_bytes("b.bin", CONTENT)
    second = Rival(engine, lambda: post(engine, tables, attachment))
    with Session(engine) as session:
        enqueue(session, tables, order(Attachment.from_bytes("a.bin", CONTENT)), DEFAULTS)
        second.start()
        session.rollback()
    (part,) = stored(engine, tables, second.finish()).attachments
    assert b"".join(part.open()) == CONTENT


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_bytes_in_use_cannot_be_deleted_until_the_transaction_ends(
    engine: Engine, tables: Tables
) -> None:
    post(engine, tables, Attachment.from_bytes("a.bin", b"x"))
    with engine.begin() as connection:
        connection.execute(delete(tables.attachment))
    with Session(engine) as session, session.begin():
        enqueue(session, tables, order(Attachment.from_bytes("b.bin", b"x")), DEFAULTS)
        with engine.connect() as connection:
            free = connection.scalars(
                select(tables.blob.c.sha256).with_for_update(skip_locked=True)
            ).all()
    assert free == []


def test_what_is_too_large_stores_nothing(engine: Engine, tables: Tables) -> None:
    defaults = OutboxDefaults(max_message_bytes=1000)
    with Session(engine) as session, session.begin():
        with pytest.raises(MessageTooLarge):
            enqueue(session, tables, order(Attachment.from_bytes("a", bytes(2000))), defaults)
        message = Message(sender="shop@example.com", text="x" * 1001)
        with pytest.raises(MessageTooLarge, match=r"at most 1,000 bytes.*got: 1,001"):
            enqueue(
                session, tables, EnqueueRequest(message=message, to=["a@example.com"]), defaults
            )
        assert session.scalar(select(func.count()).select_from(tables.message)) == 0


def test_a_blob_that_lost_a_chunk_is_never_passed_off_as_whole(
    engine: Engine, tables: Tables
) -> None:
    receipt = post(engine, tables, Attachment.from_bytes("a.bin", CONTENT))
    with write_transaction(engine) as connection:
        connection.execute(delete(tables.blob_chunk).where(tables.blob_chunk.c.position == 5))
    (part,) = stored(engine, tables, receipt).attachments
    with pytest.raises(AttachmentError, match="the stored attachment"):
        list(part.open())


def test_a_large_attachment_is_never_whole_in_memory(engine: Engine, tables: Tables) -> None:
    size_bytes = 24 * 1024 * 1024

    def chunks() -> Iterator[bytes]:
        for number in range(size_bytes // CHUNK_BYTES):
            yield number.to_bytes(4, "big") * (CHUNK_BYTES // 4)

    defaults = OutboxDefaults(max_message_bytes=2 * size_bytes)
    tracemalloc.start()
    try:
        with Session(engine) as session, session.begin():
            receipt = enqueue(
                session, tables, order(Attachment.from_chunks("a", chunks())), defaults
            )
        (part,) = stored(engine, tables, receipt).attachments
        assert sum(map(len, part.open())) == size_bytes
        assert tracemalloc.get_traced_memory()[1] < size_bytes / 3
    finally:
        tracemalloc.stop()
