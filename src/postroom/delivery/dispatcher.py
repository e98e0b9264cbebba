"""From claims to relays: checked, made into mail transactions, queued where their route leads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from postroom.clock import SYSTEM_CLOCK, Clock
from postroom.delivery.claims import ClaimBatch
from postroom.delivery.composer import MessageComposer
from postroom.delivery.mail_transaction import MailTransaction, plan_transactions
from postroom.delivery.outcomes import without_attempt
from postroom.delivery.sender_pool import NoSender, SenderPool
from postroom.relays.routing import RoutingTable
from postroom.relays.selector import RelaySelector
from postroom.states import Fault, RecipientState
from postroom.storage.message_store import StoredMessage
from postroom.storage.queue.records import Claim, OutcomeRecord

#: How long a message waits whose relay this worker does not know: another one may.
_UNKNOWN_RELAY_S = 60.0
_LEAST_PAUSE_S = 1.0
#: How long mail waits where no sender can be started for its relay.
_NO_SENDER_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreSendChecks:
    """Decides what can be decided of a recipient without a relay.

    Attributes:
        max_claims_without_outcome: A recipient that was claimed more often than this, and of which
            no worker has recorded an outcome, is set aside.
    """

    max_claims_without_outcome: int

    def check(self, claim: Claim, message: StoredMessage, now: datetime) -> OutcomeRecord | None:
        """Return what to record at once; None where the claim is to be sent."""
        if claim.has_intent:
            return _has_begun(claim, now)
        if claim.claim_count > self.max_claims_without_outcome:
            return without_attempt(
                claim,
                RecipientState.REJECTED,
                f"set aside: claimed {self.max_claims_without_outcome} times without an outcome; "
                "see the workers' logs, then `postroom retry`",
                at=now,
                fault=Fault.OURSELVES,
            )
        if claim.suppression_reason is not None:
            return without_attempt(
                claim,
                RecipientState.SUPPRESSED,
                f"suppressed: {claim.suppression_reason}",
                at=now,
            )
        if message.expires_at is not None and message.expires_at.timestamp() <= claim.claimed_at:
            return without_attempt(
                claim,
                RecipientState.EXPIRED,
                f"expired at {message.expires_at.isoformat()}",
                at=now,
            )
        return None

    def unreadable(self, claim: Claim, now: datetime, because: str) -> OutcomeRecord:
        """Return what to record where rows cannot be read: the recipient's, or its message's."""
        if claim.has_intent:
            return _has_begun(claim, now)
        return without_attempt(
            claim,
            RecipientState.REJECTED,
            f"not sent: {because}; mend the row, then `postroom retry`",
            at=now,
            fault=Fault.OURSELVES,
        )


def _has_begun(claim: Claim, now: datetime) -> OutcomeRecord:
    return without_attempt(
        claim,
        RecipientState.IN_DOUBT,
        "a worker ended after it had begun to write the final dot; decide with `postroom resolve`",
        at=now,
        fault=Fault.OURSELVES,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """Puts claims into the queues of the relays that they go to.

    Attributes:
        pools: The senders of each relay, by its name.
        selectors: What chooses a relay for each route, by its name.
        routing: Which route a message takes.
        checks: What is decided before.
        clock: What tells the time.
    """

    pools: Mapping[str, SenderPool]
    selectors: Mapping[str, RelaySelector]
    routing: RoutingTable
    checks: PreSendChecks
    clock: Clock = SYSTEM_CLOCK

    def dispatch(
        self, claims: Sequence[Claim], messages: Mapping[int, MessageComposer], batch: ClaimBatch
    ) -> list[OutcomeRecord]:
        """Queue what can be sent; return the outcomes of what cannot, or not now.

        Args:
            claims: What was claimed, in the order of their messages.
            messages: Their messages, by id; one that is gone is missing.
            batch: What holds the claims.
        """
        records: list[OutcomeRecord] = []
        sendable: list[Claim] = []
        now = self.clock.utc_now()
        for claim in claims:
            record = self._checked(claim, messages.get(claim.message_id), now)
            if record is None:
                sendable.append(claim)
            else:
                records.append(record)
        by_relay: dict[str, list[MailTransaction]] = {}
        for transaction in plan_transactions(sendable, messages, batch):
            self._route(transaction, by_relay, records)
        for relay, transactions in by_relay.items():
            self._submit(relay, transactions, records)
        return records

    def _checked(
        self, claim: Claim, composer: MessageComposer | None, now: datetime
    ) -> OutcomeRecord | None:
        if claim.unreadable_because is not None:
            return self.checks.unreadable(claim, now, claim.unreadable_because)
        if composer is None:
            return self.checks.unreadable(claim, now, "there is no such message")
        return self.checks.check(claim, composer.message, now)

    def _route(
        self,
        transaction: MailTransaction,
        by_relay: dict[str, list[MailTransaction]],
        records: list[OutcomeRecord],
    ) -> None:
        message = transaction.composer.message
        name = self.routing.name_for(message.relay, message.draft.sender.domain, message.lane)
        selector = self.selectors.get(name)
        if selector is None:
            reply = self._unknown(name)
            records.extend(self._deferred(transaction, _UNKNOWN_RELAY_S, reply, Fault.OURSELVES))
        elif (relay := selector.select()) is None:
            pause_s = max(selector.retry_after_s(), _LEAST_PAUSE_S)
            reply = f"waiting: {selector.name} is paused after faults of its own"
            records.extend(self._deferred(transaction, pause_s, reply, Fault.RELAY))
        else:
            transaction.selector = selector
            by_relay.setdefault(relay.name, []).append(transaction)

    def _submit(
        self, relay: str, transactions: list[MailTransaction], records: list[OutcomeRecord]
    ) -> None:
        try:
            self.pools[relay].submit(transactions)
        except NoSender as error:
            reply = f"waiting: no sender can be started for {relay}: {error}"
            for transaction in transactions:
                records.extend(self._deferred(transaction, _NO_SENDER_S, reply, Fault.OURSELVES))

    def is_paused(self) -> bool:
        """Return whether no relay may be tried at the moment."""
        return all(pool.retry_after_s() > 0 for pool in self.pools.values())

    def close(self) -> list[Claim]:
        """Let senders end after what they have in hand; return the claims nobody will send."""
        return [
            claim
            for pool in self.pools.values()
            for transaction in pool.close()
            for claim in transaction.claims
        ]

    def join(self, timeout_s: float) -> None:
        """Wait for the senders to end, ``timeout_s`` seconds at the most for each relay's."""
        for pool in self.pools.values():
            pool.join(timeout_s)

    def abort(self) -> None:
        """Cut every connection: what is being sent ends, some of it in doubt."""
        for pool in self.pools.values():
            pool.abort()

    def _unknown(self, relay: str) -> str:
        known = ", ".join(sorted(self.selectors))
        return f"waiting for a worker that knows the relay {relay!r}; this one knows: {known}"

    def _deferred(
        self, transaction: MailTransaction, due_in_s: float, reply: str, fault: Fault
    ) -> Iterator[OutcomeRecord]:
        now = self.clock.utc_now()
        for claim in transaction.claims:
            yield without_attempt(
                claim, RecipientState.DEFERRED, reply, at=now, fault=fault, due_in_s=due_in_s
            )
