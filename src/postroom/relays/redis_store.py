"""Redis, for what workers tell each other of relays: useful while it is there, missed by nobody."""

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

#: An answer that takes longer is worth less than the mail that waits for it.
_ANSWER_S = 0.25
#: How long Redis is left alone after it did not answer.
_AWAY_S = 5.0
_LEAST_PAUSE_S = 0.01


class Run(Protocol):
    """Calls ``call`` somewhere, and returns what it returns."""

    def __call__(self, call: Callable[[], T], /) -> T:
        """Return what ``call`` returns; raise what it raises."""
        ...


def _here(call: Callable[[], T], /) -> T:
    return call()


class RedisStore:
    """One Redis database; thread-safe.

    Args:
        url: where Redis is: ``redis://host:6379/0``.
        clock: monotonic, in seconds.
        run: where a question to Redis is asked, which takes as long as Redis is far away; at
            once in the caller's thread, if not given.

    Raises:
        ConfigError: the URL cannot be made sense of, or the extra is not installed.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], float] = time.monotonic, run: Run = _here
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
                "expected what sharing rates through Redis needs to be installed, got: none; "
                "run: pip install 'postroom[redis]'"
            ) from None
        try:
            pool = redis.ConnectionPool.from_url(
                url,
                socket_timeout=_ANSWER_S,
                socket_connect_timeout=_ANSWER_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            # The URL may hold a password.
            raise ConfigError(
                "expected the Redis URL to be like redis://host:6379/0, got: something else"
            ) from None
        self._errors = (redis.RedisError, OSError)
        self._clock = clock
        self._run = run
        self._lock = threading.Lock()
        self._away_until: float | None = None
        self._redis = redis.Redis(connection_pool=pool)
        self._item = RateLimitItemPerSecond
        self._windows = MovingWindowRateLimiter(
            RedisStorage("redis://", connection_pool=pool, key_prefix="postroom")
        )

    def call(self, question: Callable[[Any], T], otherwise: T) -> T:
        """Return what ``question`` returns, called with a Redis client.

        While Redis is away it is ``otherwise``, without another wait; that is said once.
        """
        if self._away_until is not None and self._clock() < self._away_until:
            return otherwise
        try:
            answer = self._run(lambda: question(self._redis))
        except self._errors as error:
            self._lost(error)
            return otherwise
        self._found()
        return answer

    def hit(self, rate: Rate, name: str) -> float:
        """Count one more mail against ``rate`` under ``name``, where that is allowed now.

        Returns how long to wait where it is not; 0 where it is, and while Redis is away.
        """
        item = self._item(rate.count, int(rate.period_s))
        return self.call(lambda _: self._hit(item, name), 0.0)

    def _hit(self, item: Any, name: str) -> float:
        if self._windows.hit(item, name):
            return 0.0
        pause_s = self._windows.get_window_stats(item, name).reset_time - time.time()
        # Workers' clocks differ, and the window is measured by them.
        return float(min(max(pause_s, _LEAST_PAUSE_S), item.get_expiry()))

    def close(self) -> None:
        """Close the connections; another question opens new ones."""
        self._redis.connection_pool.disconnect()

    def _lost(self, error: Exception) -> None:
        with self._lock:
            if self._away_until is None:
                log.warning(
                    "Redis does not answer: rates and breakers hold for this process alone: %s",
                    str(error).partition("\n")[0] or type(error).__name__,
                )
            self._away_until = self._clock() + _AWAY_S

    def _found(self) -> None:
        if self._away_until is not None:
            with self._lock:
                self._away_until = None
            log.info("Redis answers again: rates and breakers are shared")
