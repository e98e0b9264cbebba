"""FastAPI and Starlette: an outbox on the request's session, and a worker for the lifespan."""

from __future__ import annotations

try:
    import fastapi  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "fastapi":
        raise
    raise ModuleNotFoundError(
        "postroom.integrations.fastapi needs its extra: pip install 'postroom[fastapi]'",
        name="fastapi",
    ) from None

from postroom.integrations.fastapi.extension import AsyncBoundOutbox, BoundOutbox, Postroom

__all__ = ["AsyncBoundOutbox", "BoundOutbox", "Postroom"]
