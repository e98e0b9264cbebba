"""Idle connections, circuit breakers and rate limits of the relays that this process uses.

They outlive the worker, so that the next worker of the process does not start from nothing.
"""

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
    """Idle connections and the state of each relay, by the name of the relay. Thread-safe.

    Do not use it after ``fork()``: parent and child would share the sockets.

    Args:
        connect: Makes a connection to a relay; None: a real one.
        clock: A monotonic clock, in seconds, for circuit breakers and rates.
        store: Redis, through which workers share circuit breakers and rates; None: they are those
            of this process.
    """

    def __init__(
        self,
        *,
        connect: Callable[[Relay], Transport] | None = None,
        clock: Callable[[], float] = monotonic,
        store: RedisStore | None = None,
    ) -> None:
        self._store = store
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
        """Return the circuit breaker of ``relay``."""
        with self._lock:
            if relay.name not in self._breakers:
                self._breakers[relay.name] = self._new_breaker(relay)
            return self._breakers[relay.name]

    def throttle(self, relay: Relay) -> Throttle:
        """Return the rate limits of ``relay``."""
        with self._lock:
            if relay.name not in self._throttles:
                self._throttles[relay.name] = self._new_throttle(relay)
            return self._throttles[relay.name]

    def limits_of(self, relay: Relay) -> DiscoveredLimits:
        """Return the limits of ``relay`` that were found out by refusals."""
        with self._lock:
            if relay.name not in self._limits:
                self._limits[relay.name] = DiscoveredLimits(relay, clock=self._clock)
            return self._limits[relay.name]

    def limit(self, relay: Relay) -> ConnectionLimit:
        """Return how many connections ``relay`` accepts."""
        with self._lock:
            if relay.name not in self._connection_limits:
                limit = ConnectionLimit(relay.connections, clock=self._clock)
                self._connection_limits[relay.name] = limit
            return self._connection_limits[relay.name]

    def acquire(self, relay: Relay) -> Transport:
        """Return an idle connection, or a new one with the limits found out so far.

        Args:
            relay: Where to connect to.

        Raises:
            RelayError: No connection could be made.
        """
        while (transport := self._pop_idle(relay)) is not None:
            if transport.is_usable:
                return transport
            transport.quit()
        return self._connect(self.limits_of(relay).relay)

    def release(self, relay: Relay, transport: Transport) -> None:
        """Keep an unused connection for up to ``Relay.idle_s``; an unusable one is closed.

        Args:
            relay: Where it is connected to.
            transport: The connection.
        """
        if not (transport.is_usable and self._keep(relay, transport)):
            transport.quit()

    def _keep(self, relay: Relay, transport: Transport) -> bool:
        with self._lock:
            if self._cleanup_timer is None and not self._start_cleanup(relay.idle_s, relay.idle_s):
                return False
            self._idle.setdefault(relay.name, []).append(transport)
            return True

    def _start_cleanup(self, delay_s: float, every_s: float) -> bool:
        """Call `_close_stale` after ``delay_s``; return False if no thread can be started."""
        timer = threading.Timer(delay_s, self._close_stale, [every_s])
        timer.daemon = True
        try:
            timer.start()
        except (RuntimeError, MemoryError):
            return False
        self._cleanup_timer = timer
        return True

    def close(self) -> None:
        """Send QUIT on all idle connections and close them."""
        with self._lock:
            transports = [transport for idle in self._idle.values() for transport in idle]
            self._idle.clear()
            if self._cleanup_timer is not None:
                self._cleanup_timer.cancel()
                self._cleanup_timer = None
        for transport in transports:
            transport.quit()

    def _new_breaker(self, relay: Relay) -> CircuitBreaker:
        if self._store is None:
            return CircuitBreaker(clock=self._clock)
        return RedisCircuitBreaker(_account_name(relay), self._store, clock=self._clock)

    def _new_throttle(self, relay: Relay) -> Throttle:
        return Throttle(relay, lambda rate, domain: self._new_limiter(relay, rate, domain))

    def _new_limiter(self, relay: Relay, rate: Rate, domain: str) -> RateLimiter:
        if self._store is None:
            return SlidingWindowLimiter(rate, clock=self._clock)
        name = f"{_account_name(relay)}:{domain}"
        return RedisRateLimiter(rate, name, self._store, clock=self._clock)

    def _pop_idle(self, relay: Relay) -> Transport | None:
        with self._lock:
            idle = self._idle.get(relay.name)
            return idle.pop() if idle else None

    def _close_stale(self, every_s: float) -> None:
        """Send QUIT on the connections that have been idle longer than ``idle_s``."""
        with self._lock:
            transports = [transport for idle in self._idle.values() for transport in idle]
            stale = [transport for transport in transports if not transport.is_usable]
            self._cleanup_timer = None
            if len(stale) < len(transports) and not self._start_cleanup(every_s / 2, every_s):
                stale = transports  # without a timer nothing would ever close them
            self._idle = {
                name: [transport for transport in idle if transport not in stale]
                for name, idle in self._idle.items()
            }
        for transport in stale:
            transport.quit()


def _account_name(relay: Relay) -> str:
    """Return the account at a relay, which its rates and its faults belong to."""
    user = f"{relay.username}@" if relay.username else ""
    return f"{user}{relay.host}:{relay.port}{relay.path}"
