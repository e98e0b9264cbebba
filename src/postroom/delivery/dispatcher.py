"""From claims to relays: screened, made into jobs, and queued where their route leads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from postroom.clock import utc_now
from postroom.delivery.claims import ClaimBatch
from postroom.delivery.composer import MessageComposer
from postroom.delivery.mail_transaction import Job, jobs
from postroom.delivery.outcomes import without_attempt
from postroom.delivery.sender_pool import NoSender, SenderPool
from postroom.relays.routing import RoutingTable
from postroom.relays.selector import RelaySelector
from postroom.states import Fault, RecipientState
from postroom.storage.message_store import StoredMessage
from postroom.storage.queue.records import Claim, OutcomeRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class PreSendChecks:
    """Decides without a relay.

    After ``max_claims_without_outcome`` claims without an outcome a recipient is set aside.
    """

    max_claims_without_outcome: int

    def check(self, claim: Claim, message: StoredMessage, now: datetime) -> OutcomeRecord | None:
        """Return what to record at once; None where the claim is to be sent."""
        if claim.has_intent:
            return _begun(claim, now)
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
            return _begun(claim, now)
        return without_attempt(
            claim,
            RecipientState.REJECTED,
            f"not sent: {because}; mend the row, then `postroom retry`",
            at=now,
            fault=Fault.OURSELVES,
        )


def _begun(claim: Claim, now: datetime) -> OutcomeRecord:
    return without_attempt(
        claim,
        RecipientState.IN_DOUBT,
        "a worker ended after it had begun to write the final dot; decide with `postroom resolve`",
        at=now,
        fault=Fault.OURSELVES,
    )


#: How long a message waits whose relay this worker does not know: another one may.
_UNKNOWN_RELAY_S = 60.0
_LEAST_PAUSE_S = 1.0
#: How long mail waits where no sender can be started for its relay.
_NO_SENDER_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """Sends claims on their way. ``outlets`` are by relay name, ``routers`` by route name."""

    pools: Mapping[str, SenderPool]
    selectors: Mapping[str, RelaySelector]
    routing: RoutingTable
    checks: PreSendChecks

    def dispatch(
        self, claims: Sequence[Claim], mails: Mapping[int, MessageComposer], batch: ClaimBatch
    ) -> list[OutcomeRecord]:
        """Queue what can be sent; return the results of what cannot, or not now."""
        results: list[OutcomeRecord] = []
        sendable: list[Claim] = []
        now = utc_now()
        for claim in claims:
            screened = self._checked(claim, mails.get(claim.message_id), now)
            if screened is None:
                sendable.append(claim)
            else:
                results.append(screened)
        queued: dict[str, list[Job]] = {}
        for job in jobs(sendable, mails, batch):
            self._route(job, queued, results)
        for relay, ready in queued.items():
            try:
                self.pools[relay].submit(ready)
            except NoSender as error:
                reply = f"waiting: no sender can be started for {relay}: {error}"
                for job in ready:
                    results.extend(_put_off(job, _NO_SENDER_S, reply, Fault.OURSELVES))
        return results

    def _route(self, job: Job, queued: dict[str, list[Job]], results: list[OutcomeRecord]) -> None:
        message = job.mail.message
        name = self.routing.name_for(message.relay, message.draft.sender.domain, message.lane)
        router = self.selectors.get(name)
        if router is None:
            reply = self._unknown(name)
            results.extend(_put_off(job, _UNKNOWN_RELAY_S, reply, Fault.OURSELVES))
        elif (relay := router.select()) is None:
            pause_s = max(router.retry_after_s(), _LEAST_PAUSE_S)
            reply = f"waiting: {router.name} rests after faults of its own"
            results.extend(_put_off(job, pause_s, reply, Fault.RELAY))
        else:
            job.selector = router
            queued.setdefault(relay.name, []).append(job)

    def _checked(
        self, claim: Claim, mail: MessageComposer | None, now: datetime
    ) -> OutcomeRecord | None:
        if claim.unreadable_because is not None:
            return self.checks.unreadable(claim, now, claim.unreadable_because)
        if mail is None:
            return self.checks.unreadable(claim, now, "there is no such message")
        return self.checks.check(claim, mail.message, now)

    def is_paused(self) -> bool:
        """Return whether no relay may be tried at the moment."""
        return all(outlet.retry_after_s() > 0 for outlet in self.pools.values())

    def close(self) -> list[Claim]:
        """Let senders end after what they have in hand; return the claims nobody will send."""
        return [
            claim
            for outlet in self.pools.values()
            for job in outlet.close()
            for claim in job.claims
        ]

    def join(self, timeout_s: float) -> None:
        """Wait for the senders to end, ``timeout_s`` at the most for each."""
        for outlet in self.pools.values():
            outlet.join(timeout_s)

    def abort(self) -> None:
        """Cut every connection: what is on the wire ends, some of it in doubt."""
        for outlet in self.pools.values():
            outlet.abort()

    def _unknown(self, relay: str) -> str:
        known = ", ".join(sorted(self.selectors))
        return f"waiting for a worker that knows the relay {relay!r}; this one knows: {known}"


def _put_off(job: Job, due_in_s: float, reply: str, fault: Fault) -> Iterator[OutcomeRecord]:
    now = utc_now()
    for claim in job.claims:
        yield without_attempt(
            claim, RecipientState.DEFERRED, reply, at=now, fault=fault, due_in_s=due_in_s
        )
