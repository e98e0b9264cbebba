"""One transaction to be spoken: a message for one recipient, or for several at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from postroom.delivery.batch import Batch
from postroom.delivery.mail import Mail
from postroom.smtp.route import Router
from postroom.storage.ledger import Claim

#: So often in a row a job goes back to its queue without an attempt.
FREE_RETURNS = 2


@dataclass(slots=True, kw_only=True)
class Job:
    """Claims of one message that share a transaction, and the batch that holds them.

    ``router`` is where it has been sent along; None until then. ``returns`` counts how often it
    went back to its queue without an attempt since it was claimed.
    """

    mail: Mail
    claims: tuple[Claim, ...]
    batch: Batch
    router: Router | None = None
    returns: int = 0

    def may_return(self) -> bool:
        """Count one more return to the queue that is no attempt; return whether it is free.

        A relay that drops idle connections may do so once or twice in a row; more is a fault.
        """
        self.returns += 1
        return self.returns <= FREE_RETURNS

    def pause_s(self) -> float:
        """Return how long its route rests; 0 where a relay of it may be tried now."""
        return 0.0 if self.router is None else self.router.pause_s()

    def only(self, claims: Iterable[Claim]) -> Job:
        """Return the same job for some of its recipients."""
        return replace(self, claims=tuple(claims))


def jobs(claims: Iterable[Claim], mails: Mapping[int, Mail], batch: Batch) -> Iterator[Job]:
    """Yield one job for each transaction: a copy each, or one for a message sent together."""
    for message_id, group in groupby(claims, key=lambda claim: claim.message_id):
        mail = mails[message_id]
        if mail.message.together:
            yield Job(mail=mail, claims=tuple(group), batch=batch)
        else:
            for claim in group:
                yield Job(mail=mail, claims=(claim,), batch=batch)
