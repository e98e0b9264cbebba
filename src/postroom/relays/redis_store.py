"""The Redis database through which workers share circuit breakers and rate limits.

It is optional in every sense: while Redis is down, each process uses what it knows by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from postroom.errors import ConfigError
from postroom.log import Log
from postroom.relays.options import Rate

log = Log("postroom.worker")

T = TypeVar("T")

#: Mail waits for each answer, so a slow Redis is treated like one that is down.
_TIMEOUT_S = 0.25
#: How long Redis is not asked after it did not answer.
_RETRY_AFTER_S = 5.0
_MIN_WAIT_S = 0.01


class Run(Protocol):
    """Runs a function somewhere else, such as in another thread, and waits for its result."""

    def __call__(self, call: Callable[[], T], /) -> T:
        """Return what ``call`` returns; raise what it raises."""
        ...


def _run_here(call: Callable[[], T], /) -> T:
    return call()


class RedisStore:
    """One Redis database. Thread-safe.

    Args:
        url: Where Redis is, such as ``redis://host:6379/0``.
        clock: A monotonic clock, in seconds.
        run: Runs the calls to Redis, which block for a network round trip; by default in the
            thread of the caller.

    Raises:
        ConfigError: The URL cannot be read, or the extra is not installed.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], float] = time.monotonic, run: Run = _run_here
    ) -> None:
        try:
            import redis  # noqa: PLC0415  an optional extra
            from limits import RateLimitItemPerSecond  # noqa: PLC0415  the same
            from limits.storage import RedisStorage  # noqa: PLC0415  the same
            from limits.strategies import MovingWindowRateLimiter  # noqa: PLC0415  the same
            from redis.backoff import NoBackoff  # noqa: PLC0415  the same
            from redis.retry import Retry  # noqa: PLC0415  the same
        except ModuleNotFoundError:
            raise ConfigError(
                "sharing rate limits needs the redis extra; run: pip install 'postroom[redis]'"
            ) from None
        try:
            pool = redis.ConnectionPool.from_url(
                url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            # The URL may contain a password, so it is not shown.
            raise ConfigError("the Redis URL must be like redis://host:6379/0") from None
        self._errors = (redis.RedisError, OSError)
        self._clock = clock
        self._run = run
        self._lock = threading.Lock()
        #: When Redis is asked again; None: it answers.
        self._down_until: float | None = None
        self._redis = redis.Redis(connection_pool=pool)
        self._rate_limit = RateLimitItemPerSecond
        self._windows = MovingWindowRateLimiter(
            RedisStorage("redis://", connection_pool=pool, key_prefix="postroom")
        )

    def call(self, function: Callable[[Any], T], default: T) -> T:
        """Return what ``function`` returns; ``default`` while Redis is down.

        Redis is then not asked again for five seconds, and one warning is logged.

        Args:
            function: Called with a Redis client.
            default: What to return while Redis is down.
        """
        if self._down_until is not None and self._clock() < self._down_until:
            return default
        try:
            answer = self._run(lambda: function(self._redis))
        except self._errors as error:
            self._mark_down(error)
            return default
        self._mark_up()
        return answer

    def hit(self, rate: Rate, name: str) -> float:
        """Count one mail against ``rate``, if the rate allows it now.

        Args:
            rate: The rate, shared by all workers with the same name for it.
            name: What is counted: the relay and the domain.

        Returns:
            0 if the mail was counted, and while Redis is down; otherwise the seconds to wait.
        """
        limit = self._rate_limit(rate.count, int(rate.period_s))
        return self.call(lambda _: self._hit(limit, name), 0.0)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._redis.connection_pool.disconnect()

    def _hit(self, limit: Any, name: str) -> float:
        if self._windows.hit(limit, name):
            return 0.0
        wait_s = self._windows.get_window_stats(limit, name).reset_time - time.time()
        # The clocks of the workers differ, and the window is measured by them.
        return float(min(max(wait_s, _MIN_WAIT_S), limit.get_expiry()))

    def _mark_down(self, error: Exception) -> None:
        with self._lock:
            if self._down_until is None:
                log.warning(
                    "Redis does not answer; circuit breakers and rate limits now hold for this "
                    "process only: %s",
                    str(error).partition("\n")[0] or type(error).__name__,
                )
            self._down_until = self._clock() + _RETRY_AFTER_S

    def _mark_up(self) -> None:
        if self._down_until is not None:
            with self._lock:
                self._down_until = None
            log.info("Redis answers again; circuit breakers and rate limits are shared")
