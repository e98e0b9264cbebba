"""What a process knows of its relays from one worker to the next: breakers, rates, connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from postroom.delivery.clock import monotonic
from postroom.delivery.connection_limit import ConnectionLimit
from postroom.delivery.throttle import Throttle
from postroom.smtp import transport as transports
from postroom.smtp.blackboard import Blackboard
from postroom.smtp.breaker import Breaker
from postroom.smtp.learned import Learned
from postroom.smtp.limiter import Limiter, RateLimiter
from postroom.smtp.shared_breaker import SharedBreaker
from postroom.smtp.shared_limiter import SharedLimiter
from postroom.smtp.transport import Transport
from postroom.values.rate import Rate
from postroom.values.relay import Relay


class Lines:
    """The lines to each relay; thread-safe. Relays are told apart by name.

    With a ``board`` breakers and rates are those of all workers that have the same one.
    Never to be used on the other side of a fork: a socket has two ends, not three.
    """

    def __init__(
        self,
        *,
        connect: Callable[[Relay], Transport] | None = None,
        clock: Callable[[], float] = monotonic,
        board: Blackboard | None = None,
    ) -> None:
        self._board = board
        self._connect = connect or partial(transports.connect, clock=monotonic)
        self._clock = clock
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}
        self._throttles: dict[str, Throttle] = {}
        self._learned: dict[str, Learned] = {}
        self._limits: dict[str, ConnectionLimit] = {}
        self._kept: dict[str, list[Transport]] = {}
        self._cleaning: threading.Timer | None = None

    def breaker(self, relay: Relay) -> Breaker:
        """Return the breaker of ``relay``."""
        with self._lock:
            if relay.name not in self._breakers:
                self._breakers[relay.name] = self._new_breaker(relay)
            return self._breakers[relay.name]

    def throttle(self, relay: Relay) -> Throttle:
        """Return what counts against the rates of ``relay``."""
        with self._lock:
            if relay.name not in self._throttles:
                self._throttles[relay.name] = self._new_throttle(relay)
            return self._throttles[relay.name]

    def learned(self, relay: Relay) -> Learned:
        """Return what has been found out about ``relay``."""
        with self._lock:
            if relay.name not in self._learned:
                self._learned[relay.name] = Learned(relay, clock=self._clock)
            return self._learned[relay.name]

    def limit(self, relay: Relay) -> ConnectionLimit:
        """Return how many connections ``relay`` lets us have."""
        with self._lock:
            if relay.name not in self._limits:
                limit = ConnectionLimit(relay.connections, clock=self._clock)
                self._limits[relay.name] = limit
            return self._limits[relay.name]

    def connect(self, relay: Relay) -> Transport:
        """Return a connection that was kept, or a new one, spoken to as we have learned to.

        Raises:
            RelayError: there is none to be had.
        """
        while (kept := self._take(relay)) is not None:
            if kept.is_usable:
                return kept
            kept.quit()
        return self._connect(self.learned(relay).relay)

    def keep(self, relay: Relay, transport: Transport) -> None:
        """Keep a connection that is not needed now, for the relay's ``idle_s`` at the most."""
        if not (transport.is_usable and self._is_kept(relay, transport)):
            transport.quit()

    def _is_kept(self, relay: Relay, transport: Transport) -> bool:
        with self._lock:
            if self._cleaning is None and not self._clean_in(relay.idle_s, relay.idle_s):
                return False
            self._kept.setdefault(relay.name, []).append(transport)
            return True

    def _clean_in(self, pause_s: float, every_s: float) -> bool:
        """Have `_clean` called after ``pause_s``; return False where no thread can be had."""
        timer = threading.Timer(pause_s, self._clean, [every_s])
        timer.daemon = True
        try:
            timer.start()
        except (RuntimeError, MemoryError):
            return False
        self._cleaning = timer
        return True

    def close(self) -> None:
        """Take leave of all relays."""
        with self._lock:
            left = [one for kept in self._kept.values() for one in kept]
            self._kept.clear()
            if self._cleaning is not None:
                self._cleaning.cancel()
                self._cleaning = None
        for transport in left:
            transport.quit()

    def _new_breaker(self, relay: Relay) -> Breaker:
        if self._board is None:
            return Breaker(clock=self._clock)
        return SharedBreaker(_identity(relay), self._board, clock=self._clock)

    def _new_throttle(self, relay: Relay) -> Throttle:
        return Throttle(relay, lambda rate, domain: self._new_limiter(relay, rate, domain))

    def _new_limiter(self, relay: Relay, rate: Rate, domain: str) -> Limiter:
        if self._board is None:
            return RateLimiter(rate, clock=self._clock)
        name = f"{_identity(relay)}:{domain}"
        return SharedLimiter(rate, name, self._board, clock=self._clock)

    def _take(self, relay: Relay) -> Transport | None:
        with self._lock:
            kept = self._kept.get(relay.name)
            return kept.pop() if kept else None

    def _clean(self, every_s: float) -> None:
        """Take leave on those connections that nobody came back for in time."""
        with self._lock:
            every = [one for kept in self._kept.values() for one in kept]
            stale = [one for one in every if not one.is_usable]
            self._cleaning = None
            if len(stale) < len(every) and not self._clean_in(every_s / 2, every_s):
                stale = every  # rather than leave them open with nobody to look after them
            self._kept = {
                name: [one for one in kept if one not in stale] for name, kept in self._kept.items()
            }
        for transport in stale:
            transport.quit()


def _identity(relay: Relay) -> str:
    """Name the account at a relay: what its rates and its faults belong to."""
    user = f"{relay.username}@" if relay.username else ""
    return f"{user}{relay.host}:{relay.port}{relay.path}"
