"""A breaker that all workers on one Redis share: one meets the faults, all let the relay rest.

On the board stand for each relay: ``rest`` (nobody tries, until it runs out), ``open`` (how many
rests since something worked) and ``probe`` (somebody is trying).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from postroom.relays.circuit_breaker import TRIPPING_FAULTS, CircuitBreaker, CircuitBreakerConfig
from postroom.relays.options import Rate
from postroom.relays.rate_limits import SlidingWindowLimiter
from postroom.relays.redis_store import RedisStore
from postroom.states import Fault


class RedisRateLimiter:
    """Counts on the ``board`` under ``name`` what is sent in a sliding window, and here as well.

    Here, so that the rate holds for this process alone where Redis is away, what it sent just
    before included.
    """

    def __init__(
        self, rate: Rate, name: str, board: RedisStore, *, clock: Callable[[], float]
    ) -> None:
        self._rate = rate
        self._name = name
        self._store = board
        self._clock = clock
        self._here = SlidingWindowLimiter(rate, clock=clock)
        #: Nothing is allowed before, the board has said.
        self._until = 0.0

    def try_acquire(self) -> bool:
        """Count one more mail where the rate allows it now; return whether it does."""
        if self.retry_after_s() > 0:
            return False
        pause_s = self._store.hit(self._rate, self._name)
        if pause_s > 0:
            self._until = self._clock() + pause_s
            return False
        return self._here.try_acquire()

    def retry_after_s(self) -> float:
        """Return how long until one more may be allowed; asks nobody."""
        return max(self._here.retry_after_s(), self._until - self._clock())


#: How old what we know of the others may be.
_FRESH_S = 1.0


class RedisCircuitBreaker(CircuitBreaker):
    """A breaker of this process, and what the ``board`` says under ``name``.

    Where Redis is away it is this process's alone.
    """

    def __init__(
        self,
        name: str,
        board: RedisStore,
        *,
        clock: Callable[[], float],
        config: CircuitBreakerConfig | None = None,
    ) -> None:
        super().__init__(clock=clock, config=config)
        self._store = board
        self._rest_key, self._open_key, self._probe_key = (
            f"postroom:breaker:{name}:{what}" for what in ("rest", "open", "probe")
        )
        self._looked_at = -_FRESH_S
        #: What the board said then: whether somebody found the relay at fault, and until when
        #: nobody should try.
        self._is_open_elsewhere = False
        self._rests_until = 0.0
        #: We are the one who tries.
        self._is_chosen = False

    def allow_request(self) -> bool:
        """Return whether the relay may be used now; after a rest for one probe of all workers."""
        if super().retry_after_s() > 0:
            return False
        if not self._store.call(self._is_probe, otherwise=True):
            return False
        return super().allow_request()

    def retry_after_s(self) -> float:
        """Return how long until it is worth asking again, by what is known here and elsewhere."""
        self._refresh()
        return max(super().retry_after_s(), self._rests_until - self._clock(), 0.0)

    def record(self, fault: Fault | None) -> None:
        """Take note of an outcome, and tell the others where it changes anything for them."""
        rests = self._times_opened
        super().record(fault)
        if fault in TRIPPING_FAULTS:
            if self._is_chosen or self._times_opened > rests:
                self._store.call(lambda redis: self._publish_open(redis, fault), None)
        elif fault is not Fault.OURSELVES and (self._is_open_elsewhere or self._is_chosen):
            self._store.call(self._publish_closed, None)

    def _is_probe(self, redis: Any) -> bool:
        if redis.exists(self._rest_key):
            return False
        if not redis.exists(self._open_key):
            return True
        self._is_open_elsewhere = True
        probe_ms = int(self._config.probe_timeout_s * 1000)
        if redis.set(self._probe_key, 1, nx=True, px=probe_ms):
            self._is_chosen = True
            return True
        return False

    def _publish_open(self, redis: Any, fault: Fault | None) -> None:
        config = self._config
        rests = int(redis.get(self._open_key) or 0)
        rest_s = config.backoff.pause_s(rests + 1)
        # Of many who meet the same fault one speaks.
        if redis.set(self._rest_key, str(fault), nx=True, px=int(rest_s * 1000)):
            with redis.pipeline() as together:
                together.incr(self._open_key)
                together.expire(
                    self._open_key, int(2 * config.max_reset_timeout_s + config.probe_timeout_s)
                )
                together.delete(self._probe_key)
                together.execute()
        self._is_chosen = False
        self._is_open_elsewhere = True

    def _publish_closed(self, redis: Any) -> None:
        redis.delete(self._open_key, self._rest_key, self._probe_key)
        self._is_chosen = self._is_open_elsewhere = False
        self._rests_until = 0.0

    def _refresh(self) -> None:
        """Read the board, if that was not done just now."""
        now = self._clock()
        if now - self._looked_at >= _FRESH_S:
            self._looked_at = now
            self._store.call(self._read, None)

    def _read(self, redis: Any) -> None:
        with redis.pipeline() as together:
            together.pttl(self._rest_key)
            together.exists(self._open_key)
            together.pttl(self._probe_key)
            rest_ms, is_open, probe_ms = together.execute()
        now = self._clock()
        # A probe under way may succeed any moment.
        probe_s = 0.0 if self._is_chosen else min(probe_ms / 1000, self._config.reset_timeout_s)
        self._rests_until = now + max(rest_ms / 1000, probe_s, 0.0) if is_open else 0.0
        if self._is_open_elsewhere and not is_open:
            # Somebody has found it well again.
            self.reset()
        self._is_open_elsewhere = bool(is_open)
