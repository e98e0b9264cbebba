"""Circuit breakers and rate limits that all workers with one Redis share.

While Redis is down, they work like those of one process, from what this process has counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from postroom.relays.circuit_breaker import TRIPPING_FAULTS, CircuitBreaker, CircuitBreakerConfig
from postroom.relays.options import Rate
from postroom.relays.rate_limits import SlidingWindowLimiter
from postroom.relays.redis_store import RedisStore
from postroom.states import Fault

#: How long what was read from Redis is used before it is read again.
_REFRESH_S = 1.0


class RedisRateLimiter:
    """A rate limit in a sliding window, counted in Redis and in this process.

    The process counts too, so that the limit holds without a gap when Redis goes down.

    Args:
        rate: The limit.
        name: What is counted: workers that use the same name share the limit.
        store: The Redis database.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self, rate: Rate, name: str, store: RedisStore, *, clock: Callable[[], float]
    ) -> None:
        self._rate = rate
        self._name = name
        self._store = store
        self._clock = clock
        self._local = SlidingWindowLimiter(rate, clock=clock)
        #: Until then Redis allows nothing.
        self._blocked_until = 0.0

    def try_acquire(self) -> bool:
        """Count one mail if the rate allows it now; return whether it does."""
        if self.retry_after_s() > 0:
            return False
        wait_s = self._store.hit(self._rate, self._name)
        if wait_s > 0:
            self._blocked_until = self._clock() + wait_s
            return False
        return self._local.try_acquire()

    def retry_after_s(self) -> float:
        """Return the seconds until one more mail may be allowed; this does not ask Redis."""
        return max(self._local.retry_after_s(), self._blocked_until - self._clock())


class RedisCircuitBreaker(CircuitBreaker):
    """A circuit breaker whose state is shared through Redis.

    There are three keys for each name: ``paused`` exists while nobody may use the relay, ``opened``
    counts how often it was opened since the last success, and ``probe`` exists while one worker
    tries the relay.

    Args:
        name: The relay: workers that use the same name share the state.
        store: The Redis database.
        clock: A monotonic clock, in seconds.
        config: When it opens, and for how long; None: the defaults.
    """

    def __init__(
        self,
        name: str,
        store: RedisStore,
        *,
        clock: Callable[[], float],
        config: CircuitBreakerConfig | None = None,
    ) -> None:
        super().__init__(clock=clock, config=config)
        self._store = store
        self._paused_key, self._opened_key, self._probe_key = (
            f"postroom:breaker:{name}:{key}" for key in ("paused", "opened", "probe")
        )
        self._refreshed_at = -_REFRESH_S
        #: What Redis said then: whether any worker has opened it, and until when nobody may use
        #: the relay.
        self._is_open_in_redis = False
        self._paused_until = 0.0
        #: This process runs the probe.
        self._is_prober = False

    def allow_request(self) -> bool:
        """Return whether the relay may be used now; when it was open, by one probe of all workers.

        Callers that get True must call ``record`` with the outcome.
        """
        if super().retry_after_s() > 0:
            return False
        if not self._store.call(self._try_probe, default=True):
            return False
        return super().allow_request()

    def retry_after_s(self) -> float:
        """Return the seconds until it is worth asking again, by what any worker has seen."""
        self._refresh()
        return max(super().retry_after_s(), self._paused_until - self._clock(), 0.0)

    def record(self, fault: Fault | None) -> None:
        """Count an outcome, and share it if it opens or closes the circuit breaker.

        Args:
            fault: Whose fault a failure was; None: it was a success.
        """
        times_opened = self._times_opened
        super().record(fault)
        if fault in TRIPPING_FAULTS:
            if self._is_prober or self._times_opened > times_opened:
                self._store.call(lambda redis: self._publish_open(redis, fault), None)
        elif fault is not Fault.OURSELVES and (self._is_open_in_redis or self._is_prober):
            self._store.call(self._publish_closed, None)

    def _try_probe(self, redis: Any) -> bool:
        if redis.exists(self._paused_key):
            return False
        if not redis.exists(self._opened_key):
            return True
        self._is_open_in_redis = True
        probe_ms = int(self._config.probe_timeout_s * 1000)
        if redis.set(self._probe_key, 1, nx=True, px=probe_ms):
            self._is_prober = True
            return True
        return False

    def _publish_open(self, redis: Any, fault: Fault | None) -> None:
        config = self._config
        open_s = config.open_s(int(redis.get(self._opened_key) or 0))
        # Many workers meet the same fault; only the first one counts it.
        if redis.set(self._paused_key, str(fault), nx=True, px=int(open_s * 1000)):
            with redis.pipeline() as batch:
                batch.incr(self._opened_key)
                batch.expire(
                    self._opened_key, int(2 * config.max_reset_timeout_s + config.probe_timeout_s)
                )
                batch.delete(self._probe_key)
                batch.execute()
        self._is_prober = False
        self._is_open_in_redis = True

    def _publish_closed(self, redis: Any) -> None:
        redis.delete(self._opened_key, self._paused_key, self._probe_key)
        self._is_prober = self._is_open_in_redis = False
        self._paused_until = 0.0

    def _refresh(self) -> None:
        """Read the state from Redis, unless that was done within the last second."""
        now = self._clock()
        if now - self._refreshed_at >= _REFRESH_S:
            self._refreshed_at = now
            self._store.call(self._read, None)

    def _read(self, redis: Any) -> None:
        with redis.pipeline() as batch:
            batch.pttl(self._paused_key)
            batch.exists(self._opened_key)
            batch.pttl(self._probe_key)
            paused_ms, is_open, probe_ms = batch.execute()
        now = self._clock()
        # A running probe may succeed at any moment.
        probe_s = 0.0 if self._is_prober else min(probe_ms / 1000, self._config.reset_timeout_s)
        self._paused_until = now + max(paused_ms / 1000, probe_s, 0.0) if is_open else 0.0
        if self._is_open_in_redis and not is_open:
            # Another worker has found that the relay works again.
            self.reset()
        self._is_open_in_redis = bool(is_open)
