"""A message in a worker's hands: composed once, handed out to every recipient.

What all recipients share is kept as bytes where it is small and in an unlinked temporary file
where it is not, so that an attachment is encoded once and never whole in memory.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import thread_time
from typing import Protocol

from postroom.storage.contents import StoredMessage
from postroom.storage.ledger import Claim
from postroom.values.address import Address
from postroom.values.envelope import Envelope
from postroom.values.message import Draft
from postroom.values.mime import Content, compose, message_id_for
from postroom.values.template import DEFAULT_BUDGET, RenderBudget

#: Up to this size the shared bytes of a message are kept in memory.
IN_MEMORY_BYTES = 256 * 1024
_READ_BYTES = 256 * 1024
#: A rendering that takes longer keeps every other connection waiting for too long.
SLOW_S = 0.02
#: For so many recipients after a slow one a message's templates are rendered aside.
_SLOW_FOR = 100


class _Tail(Protocol):
    """The bytes that every recipient of a content shares."""

    def chunks(self) -> Iterator[bytes]: ...


class _MemoryTail:
    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def chunks(self) -> Iterator[bytes]:
        yield self._content


class _FileTail:
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
class Letter:
    """The payload of one transaction: a head of its own before the shared tail."""

    head: bytes
    tail: _Tail
    size_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the wire form; see :class:`postroom.values.envelope.Payload`."""
        chunks = self.tail.chunks()
        yield self.head + next(chunks)
        yield from chunks


class _Composed:
    """A content and its tail, made when the first sender asks for it."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._lock = threading.Lock()
        self._tail: _Tail | None = None

    @property
    def needs_smtputf8(self) -> bool:
        return self._content.needs_smtputf8

    @property
    def is_whole(self) -> bool:
        """Return whether the tail has been made."""
        return self._tail is not None

    def letter(self, to: Address | None, message_id: str) -> Letter:
        head = self._content.head(to=to, message_id=message_id)
        size_bytes = len(head) + self._content.tail_size_bytes
        return Letter(head, self._shared_tail(), size_bytes)

    def _shared_tail(self) -> _Tail:
        if self._tail is None:
            with self._lock:
                if self._tail is None:
                    self._tail = self._make_tail()
        return self._tail

    def _make_tail(self) -> _Tail:
        if self._content.tail_size_bytes <= IN_MEMORY_BYTES:
            return _MemoryTail(b"".join(self._content.tail()))
        return _FileTail(self._content.tail())


class Mail:
    """One stored message and what is made of it."""

    def __init__(self, message: StoredMessage) -> None:
        self.message = message
        self._lock = threading.Lock()
        self._shared: _Composed | None = None
        self._is_templated = message.draft.is_templated
        #: For how many recipients more its templates are taken to be slow.
        self._slow_left = 0

    @property
    def is_slow_to_compose(self) -> bool:
        """Return whether ``address`` may take long.

        It would read attachments, from files or the database; or a template took long lately.
        """
        if self._slow_left:
            return True
        if not self.message.draft.attachments:
            return False
        return self._is_templated or self._shared is None or not self._shared.is_whole

    def address(
        self, claims: Sequence[Claim], budget: RenderBudget = DEFAULT_BUDGET
    ) -> tuple[Envelope, Letter]:
        """Return envelope and payload for ``claims``: one, or several of a message sent together.

        Args:
            claims: Recipients of this message.
            budget: What its templates may take to render, where recipients bring variables.

        Raises:
            TemplateTooSlow: the templates take more than ``budget``.
            MessageError: the content cannot be composed.
        """
        message = self.message
        recipients = [Address.stored(claim.address, claim.name) for claim in claims]
        composed = self._composed(claims[0], budget)
        own = None if message.together else recipients[0]
        recipient_id = None if message.together else claims[0].recipient_id
        letter = composed.letter(
            own, message_id_for(message.draft.token, recipient_id, message.draft.sender)
        )
        envelope = Envelope(
            sender=message.envelope_sender,
            recipients=tuple([recipient.envelope for recipient in recipients]),
            size_bytes=letter.size_bytes,
            needs_smtputf8=composed.needs_smtputf8
            or True in [recipient.needs_smtputf8 for recipient in recipients],
            notice=message.notice,
        )
        return envelope, letter

    def _composed(self, claim: Claim, budget: RenderBudget) -> _Composed:
        draft = self.message.draft
        if self._is_templated:
            return _Composed(compose(self._rendered(claim, budget)))
        if self._shared is None:
            with self._lock:
                if self._shared is None:
                    self._shared = _Composed(compose(draft))
        return self._shared

    def _rendered(self, claim: Claim, budget: RenderBudget) -> Draft:
        # The time of this thread alone: others may hold the interpreter meanwhile.
        began = thread_time()
        try:
            return self.message.draft.rendered(claim.variables or {}, budget)
        finally:
            is_slow = thread_time() - began > SLOW_S
            self._slow_left = _SLOW_FOR if is_slow else max(self._slow_left - 1, 0)


class MailCache:
    """The messages lately worked on, so that a campaign is loaded and composed once.

    By id, and bound to the token of what was loaded: an id may come to stand for other content,
    in a restored backup or in tables that were emptied under the worker.
    """

    def __init__(self, *, capacity: int = 64) -> None:
        self._capacity = capacity
        self._mails: OrderedDict[int, Mail] = OrderedDict()

    def missing(self, claims: Sequence[Claim]) -> list[int]:
        """Return which messages of ``claims`` have to be loaded; forget what they are no more."""
        wanted = {claim.message_id: claim.message_token for claim in claims}
        for message_id, token in wanted.items():
            cached = self._mails.get(message_id)
            if cached is not None and cached.message.draft.token != token:
                del self._mails[message_id]
        return [one for one in sorted(wanted) if one not in self._mails]

    def add(self, messages: Sequence[StoredMessage]) -> dict[int, Mail]:
        """Take in freshly loaded messages; return them with what was there already."""
        fresh = {message.id: Mail(message) for message in messages}
        found = {**self._mails, **fresh}
        self._mails.update(fresh)
        while len(self._mails) > self._capacity:
            self._mails.popitem(last=False)
        return found
