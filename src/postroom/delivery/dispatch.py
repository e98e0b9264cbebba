"""From claims to relays: screened, made into jobs, and queued where their route leads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from postroom.delivery.batch import Batch
from postroom.delivery.clock import utc_now
from postroom.delivery.job import Job, jobs
from postroom.delivery.mail import Mail
from postroom.delivery.outlet import NoSender, Outlet
from postroom.delivery.routing import Routing
from postroom.delivery.screening import Screening
from postroom.delivery.verdict import without_attempt
from postroom.smtp.route import Router
from postroom.storage.ledger import Claim, Result
from postroom.values.states import Fault, RecipientState

#: How long a message waits whose relay this worker does not know: another one may.
_UNKNOWN_RELAY_S = 60.0
_LEAST_PAUSE_S = 1.0
#: How long mail waits where no sender can be started for its relay.
_NO_SENDER_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """Sends claims on their way. ``outlets`` are by relay name, ``routers`` by route name."""

    outlets: Mapping[str, Outlet]
    routers: Mapping[str, Router]
    routing: Routing
    screening: Screening

    def send(
        self, claims: Sequence[Claim], mails: Mapping[int, Mail], batch: Batch
    ) -> list[Result]:
        """Queue what can be sent; return the results of what cannot, or not now."""
        results: list[Result] = []
        sendable: list[Claim] = []
        now = utc_now()
        for claim in claims:
            screened = self._screened(claim, mails.get(claim.message_id), now)
            if screened is None:
                sendable.append(claim)
            else:
                results.append(screened)
        queued: dict[str, list[Job]] = {}
        for job in jobs(sendable, mails, batch):
            self._route(job, queued, results)
        for relay, ready in queued.items():
            try:
                self.outlets[relay].put(ready)
            except NoSender as error:
                reply = f"waiting: no sender can be started for {relay}: {error}"
                for job in ready:
                    results.extend(_put_off(job, _NO_SENDER_S, reply, Fault.OURSELVES))
        return results

    def _route(self, job: Job, queued: dict[str, list[Job]], results: list[Result]) -> None:
        name = self.routing.name_for(job.mail.message)
        router = self.routers.get(name)
        if router is None:
            reply = self._unknown(name)
            results.extend(_put_off(job, _UNKNOWN_RELAY_S, reply, Fault.OURSELVES))
        elif (relay := router.choose()) is None:
            pause_s = max(router.pause_s(), _LEAST_PAUSE_S)
            reply = f"waiting: {router.name} rests after faults of its own"
            results.extend(_put_off(job, pause_s, reply, Fault.RELAY))
        else:
            job.router = router
            queued.setdefault(relay.name, []).append(job)

    def _screened(self, claim: Claim, mail: Mail | None, now: datetime) -> Result | None:
        if claim.unreadable_because is not None:
            return self.screening.unreadable(claim, now, claim.unreadable_because)
        if mail is None:
            return self.screening.unreadable(claim, now, "there is no such message")
        return self.screening.result(claim, mail.message, now)

    def is_resting(self) -> bool:
        """Return whether no relay may be tried at the moment."""
        return all(outlet.pause_s() > 0 for outlet in self.outlets.values())

    def close(self) -> list[Claim]:
        """Let senders end after what they have in hand; return the claims nobody will send."""
        return [
            claim
            for outlet in self.outlets.values()
            for job in outlet.close()
            for claim in job.claims
        ]

    def join(self, timeout_s: float) -> None:
        """Wait for the senders to end, ``timeout_s`` at the most for each."""
        for outlet in self.outlets.values():
            outlet.join(timeout_s)

    def cut(self) -> None:
        """Cut every connection: what is on the wire ends, some of it in doubt."""
        for outlet in self.outlets.values():
            outlet.cut()

    def _unknown(self, relay: str) -> str:
        known = ", ".join(sorted(self.routers))
        return f"waiting for a worker that knows the relay {relay!r}; this one knows: {known}"


def _put_off(job: Job, due_in_s: float, reply: str, fault: Fault) -> Iterator[Result]:
    now = utc_now()
    for claim in job.claims:
        yield without_attempt(
            claim, RecipientState.DEFERRED, reply, at=now, fault=fault, due_in_s=due_in_s
        )
