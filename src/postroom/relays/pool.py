"""What a process knows of its relays from one worker to the next: breakers, rates, connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from postroom.clock import monotonic
from postroom.relays.circuit_breaker import CircuitBreaker
from postroom.relays.discovered_limits import ConnectionLimit, DiscoveredLimits
from postroom.relays.options import Rate
from postroom.relays.rate_limits import RateLimiter, SlidingWindowLimiter, Throttle
from postroom.relays.redis_shared import RedisCircuitBreaker, RedisRateLimiter
from postroom.relays.redis_store import RedisStore
from postroom.relays.relay import Relay
from postroom.smtp import transport as transports
from postroom.smtp.transport import Transport


class ConnectionPool:
    """The lines to each relay; thread-safe. Relays are told apart by name.

    With a ``board`` breakers and rates are those of all workers that have the same one.
    Never to be used on the other side of a fork: a socket has two ends, not three.
    """

    def __init__(
        self,
        *,
        connect: Callable[[Relay], Transport] | None = None,
        clock: Callable[[], float] = monotonic,
        board: RedisStore | None = None,
    ) -> None:
        self._store = board
        self._connect = connect or partial(transports.connect, clock=monotonic)
        self._clock = clock
        self._lock = threading.Lock()
        self._breakers: dict[str, CircuitBreaker] = {}
        self._throttles: dict[str, Throttle] = {}
        self._limits: dict[str, DiscoveredLimits] = {}
        self._connection_limits: dict[str, ConnectionLimit] = {}
        self._idle: dict[str, list[Transport]] = {}
        self._cleanup_timer: threading.Timer | None = None

    def breaker(self, relay: Relay) -> CircuitBreaker:
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

    def limits_of(self, relay: Relay) -> DiscoveredLimits:
        """Return what has been found out about ``relay``."""
        with self._lock:
            if relay.name not in self._limits:
                self._limits[relay.name] = DiscoveredLimits(relay, clock=self._clock)
            return self._limits[relay.name]

    def limit(self, relay: Relay) -> ConnectionLimit:
        """Return how many connections ``relay`` lets us have."""
        with self._lock:
            if relay.name not in self._connection_limits:
                limit = ConnectionLimit(relay.connections, clock=self._clock)
                self._connection_limits[relay.name] = limit
            return self._connection_limits[relay.name]

    def acquire(self, relay: Relay) -> Transport:
        """Return a connection that was kept, or a new one, spoken to as we have learned to.

        Raises:
            RelayError: there is none to be had.
        """
        while (kept := self._pop_idle(relay)) is not None:
            if kept.is_usable:
                return kept
            kept.quit()
        return self._connect(self.limits_of(relay).relay)

    def release(self, relay: Relay, transport: Transport) -> None:
        """Keep a connection that is not needed now, for the relay's ``idle_s`` at the most."""
        if not (transport.is_usable and self._is_kept(relay, transport)):
            transport.quit()

    def _is_kept(self, relay: Relay, transport: Transport) -> bool:
        with self._lock:
            if self._cleanup_timer is None and not self._clean_in(relay.idle_s, relay.idle_s):
                return False
            self._idle.setdefault(relay.name, []).append(transport)
            return True

    def _clean_in(self, pause_s: float, every_s: float) -> bool:
        """Have `_close_stale` called after ``pause_s``; return False where no thread can be had."""
        timer = threading.Timer(pause_s, self._close_stale, [every_s])
        timer.daemon = True
        try:
            timer.start()
        except (RuntimeError, MemoryError):
            return False
        self._cleanup_timer = timer
        return True

    def close(self) -> None:
        """Take leave of all relays."""
        with self._lock:
            left = [one for kept in self._idle.values() for one in kept]
            self._idle.clear()
            if self._cleanup_timer is not None:
                self._cleanup_timer.cancel()
                self._cleanup_timer = None
        for transport in left:
            transport.quit()

    def _new_breaker(self, relay: Relay) -> CircuitBreaker:
        if self._store is None:
            return CircuitBreaker(clock=self._clock)
        return RedisCircuitBreaker(_account_of(relay), self._store, clock=self._clock)

    def _new_throttle(self, relay: Relay) -> Throttle:
        return Throttle(relay, lambda rate, domain: self._new_limiter(relay, rate, domain))

    def _new_limiter(self, relay: Relay, rate: Rate, domain: str) -> RateLimiter:
        if self._store is None:
            return SlidingWindowLimiter(rate, clock=self._clock)
        name = f"{_account_of(relay)}:{domain}"
        return RedisRateLimiter(rate, name, self._store, clock=self._clock)

    def _pop_idle(self, relay: Relay) -> Transport | None:
        with self._lock:
            kept = self._idle.get(relay.name)
            return kept.pop() if kept else None

    def _close_stale(self, every_s: float) -> None:
        """Take leave on those connections that nobody came back for in time."""
        with self._lock:
            every = [one for kept in self._idle.values() for one in kept]
            stale = [one for one in every if not one.is_usable]
            self._cleanup_timer = None
            if len(stale) < len(every) and not self._clean_in(every_s / 2, every_s):
                stale = every  # rather than leave them open with nobody to look after them
            self._idle = {
                name: [one for one in kept if one not in stale] for name, kept in self._idle.items()
            }
        for transport in stale:
            transport.quit()


def _account_of(relay: Relay) -> str:
    """Name the account at a relay: what its rates and its faults belong to."""
    user = f"{relay.username}@" if relay.username else ""
    return f"{user}{relay.host}:{relay.port}{relay.path}"
