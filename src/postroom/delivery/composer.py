"""A claimed message as it is sent: composed once, for every recipient.

What all recipients share is kept as bytes where it is small and in an unlinked temporary file
where it is not, so that an attachment is encoded once and never whole in memory.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from time import thread_time
from typing import Protocol

from postroom.clock import monotonic
from postroom.message.address import Address
from postroom.message.envelope import Envelope
from postroom.message.message import Draft
from postroom.message.mime import Content, compose, message_id_for
from postroom.message.templates import DEFAULT_BUDGET, RenderBudget
from postroom.storage.message_store import StoredMessage
from postroom.storage.queue.records import Claim

#: Up to this size the shared bytes of a message are kept in memory.
IN_MEMORY_BYTES = 256 * 1024
_READ_BYTES = 256 * 1024

#: What is kept for further recipients, in messages and in bytes of memory and temporary disk: a
#: worker may run beside an application, in a container with little of either. Mail in a sender's
#: hands comes on top.
MOST_KEPT = 64
MOST_KEPT_BYTES = 64 * 1024 * 1024
#: A campaign claims some of its recipients every second.
KEPT_UNUSED_S = 60.0

#: A rendering that takes longer keeps every other connection waiting for too long.
SLOW_S = 0.02
#: For so many recipients after a slow one a message's templates are rendered aside.
_SLOW_FOR = 100


class _SharedBytes(Protocol):
    """The bytes that every recipient of a content shares."""

    def chunks(self) -> Iterator[bytes]: ...


class _InMemory:
    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def chunks(self) -> Iterator[bytes]:
        yield self._content


class _InFile:
    """An unlinked temporary file, read by position so that senders can share it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        with tempfile.TemporaryFile(prefix="postroom-") as spool:
            for chunk in chunks:
                spool.write(chunk)
            spool.flush()
            self._file = os.dup(spool.fileno())
        weakref.finalize(self, os.close, self._file)

    def chunks(self) -> Iterator[bytes]:
        position = 0
        while chunk := os.pread(self._file, _READ_BYTES, position):
            position += len(chunk)
            yield chunk


@dataclass(slots=True)
class Payload:
    """The payload of one transaction: a head of its own before the shared tail."""

    head: bytes
    tail: _SharedBytes
    size_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the dot-stuffed bytes in pieces of at most 256 KiB.

        The last piece ends with CRLF; the terminating ``.`` line is the transport's. Each call
        yields the same bytes again.
        """
        chunks = self.tail.chunks()
        yield self.head + next(chunks)
        yield from chunks


class _ComposedMessage:
    """A content and its tail, made when the first sender asks for it."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._lock = threading.Lock()
        self._tail: _SharedBytes | None = None

    @property
    def needs_smtputf8(self) -> bool:
        return self._content.needs_smtputf8

    @property
    def is_whole(self) -> bool:
        """Return whether the tail has been made."""
        return self._tail is not None

    @property
    def kept_bytes(self) -> int:
        """Return how long the tail is, once it has been made."""
        return 0 if self._tail is None else self._content.tail_size_bytes

    def payload(self, to: Address | None, message_id: str) -> Payload:
        head = self._content.head(to=to, message_id=message_id)
        size_bytes = len(head) + self._content.tail_size_bytes
        return Payload(head, self._shared_tail(), size_bytes)

    def _shared_tail(self) -> _SharedBytes:
        if self._tail is None:
            with self._lock:
                if self._tail is None:
                    self._tail = self._make_tail()
        return self._tail

    def _make_tail(self) -> _SharedBytes:
        if self._content.tail_size_bytes <= IN_MEMORY_BYTES:
            return _InMemory(b"".join(self._content.tail()))
        return _InFile(self._content.tail())


class MessageComposer:
    """One stored message and what is made of it."""

    def __init__(self, message: StoredMessage) -> None:
        self.message = message
        self._lock = threading.Lock()
        self._shared: _ComposedMessage | None = None
        self._is_templated = message.draft.is_templated
        #: For how many recipients more its templates are taken to be slow.
        self._slow_left = 0
        draft = message.draft
        bodies = [body for body in (draft.text, draft.html) if isinstance(body, str)]
        self._text_bytes = sum(map(len, bodies))
        #: Whether it could not be composed for want of memory or disk.
        self.had_shortage = False

    @property
    def kept_bytes(self) -> int:
        """Return about how much memory and temporary disk it takes by now."""
        return self._text_bytes + (0 if self._shared is None else self._shared.kept_bytes)

    @property
    def is_slow_to_compose(self) -> bool:
        """Return whether `compose_for` may take long.

        It would read attachments, from files or the database; or a template took long lately.
        """
        if self._slow_left:
            return True
        if not self.message.draft.attachments:
            return False
        return self._is_templated or self._shared is None or not self._shared.is_whole

    def compose_for(
        self, claims: Sequence[Claim], budget: RenderBudget = DEFAULT_BUDGET
    ) -> tuple[Envelope, Payload]:
        """Return envelope and payload for ``claims``: one, or several of a shared message.

        Args:
            claims: Recipients of this message.
            budget: What its templates may take to render, where recipients bring variables.

        Raises:
            TemplateTooSlow: the templates take more than ``budget``.
            MessageError: the content cannot be composed.
            OSError: there is no room on the temporary disk, say; nothing is left there.
            MemoryError: there is no memory for it.
            SQLAlchemyError: attachments cannot be read now.
        """
        message = self.message
        recipients = [Address.from_stored(claim.address, claim.name) for claim in claims]
        own = None if message.shared else recipients[0]
        recipient_id = None if message.shared else claims[0].recipient_id
        message_id = message_id_for(
            message.draft.message_id_seed, recipient_id, message.draft.sender
        )
        try:
            composed = self._composed(claims[0], budget)
            payload = composed.payload(own, message_id)
        except (OSError, MemoryError):
            self.had_shortage = True
            raise
        envelope = Envelope(
            sender=message.envelope_sender,
            recipients=tuple([recipient.envelope for recipient in recipients]),
            size_bytes=payload.size_bytes,
            needs_smtputf8=composed.needs_smtputf8
            or True in [recipient.needs_smtputf8 for recipient in recipients],
            dsn=message.dsn,
        )
        return envelope, payload

    def _composed(self, claim: Claim, budget: RenderBudget) -> _ComposedMessage:
        draft = self.message.draft
        if self._is_templated:
            return _ComposedMessage(compose(self._rendered(claim, budget)))
        if self._shared is None:
            with self._lock:
                if self._shared is None:
                    self._shared = _ComposedMessage(compose(draft))
        return self._shared

    def _rendered(self, claim: Claim, budget: RenderBudget) -> Draft:
        # The time of this thread alone: others may hold the interpreter meanwhile.
        began = thread_time()
        try:
            return self.message.draft.rendered(claim.variables or {}, budget)
        finally:
            is_slow = thread_time() - began > SLOW_S
            self._slow_left = _SLOW_FOR if is_slow else max(self._slow_left - 1, 0)


class ComposerCache:
    """The messages lately worked on, so that a campaign is loaded and composed once.

    By id, and bound to the message id seed of what was loaded: an id may come to mean other
    content, in a restored backup or in tables that were emptied under the worker.

    What is forgotten while senders have it in hand lasts until they have done with it.

    Args:
        clock: Monotonic, in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        #: The least lately used first, with when that was.
        self._composers: OrderedDict[int, MessageComposer] = OrderedDict()
        self._used_at: dict[int, float] = {}

    def __len__(self) -> int:
        """Return how many messages are kept."""
        return len(self._composers)

    def missing(self, claims: Sequence[Claim]) -> list[int]:
        """Return which messages of ``claims`` have to be loaded; forget what they are no more."""
        wanted = {claim.message_id: claim.message_id_seed for claim in claims}
        return [one for one in sorted(wanted) if not self._has(one, wanted[one])]

    def _has(self, message_id: int, seed: str | None) -> bool:
        composer = self._composers.get(message_id)
        if composer is None:
            return False
        if composer.message.draft.message_id_seed != seed:
            self._forget(message_id)
            return False
        self._composers.move_to_end(message_id)
        self._used_at[message_id] = self._clock()
        return True

    def add(self, messages: Sequence[StoredMessage]) -> dict[int, MessageComposer]:
        """Take in freshly loaded messages; return them with what was there already."""
        now = self._clock()
        for message in messages:
            self._composers[message.id] = MessageComposer(message)
            self._used_at[message.id] = now
        found = dict(self._composers)
        self.trim()
        return found

    def trim(self) -> None:
        """Forget what was not used for a while, and the least lately used of what is too much.

        The last one used stays even where it is too large by itself: it would be composed anew
        for each claim of its recipients. It goes when they have all been claimed for a while. Where
        memory or disk is not enough for some mail, everything goes.
        """
        unused_since = self._clock() - KEPT_UNUSED_S
        if any(one.had_shortage for one in self._composers.values()):
            unused_since = inf
        for message_id in [one for one in self._composers if self._used_at[one] <= unused_since]:
            self._forget(message_id)
        kept_bytes = sum(one.kept_bytes for one in self._composers.values())
        while len(self._composers) > MOST_KEPT or (
            len(self._composers) > 1 and kept_bytes > MOST_KEPT_BYTES
        ):
            kept_bytes -= self._forget(next(iter(self._composers))).kept_bytes

    def _forget(self, message_id: int) -> MessageComposer:
        del self._used_at[message_id]
        return self._composers.pop(message_id)
