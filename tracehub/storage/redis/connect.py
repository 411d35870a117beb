"""Redis clients that survive a restart of their server."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError


def open_redis(url: str, *, retries: int = 3, timeout_s: float | None = 5.0) -> Redis:
    """A client with its own pool. A broken connection is tried again a few times within about half a second;
    a command may then run twice, so everything that counts is a script that can bear it."""
    client: Redis = Redis.from_url(
        url,
        socket_connect_timeout=5.0,
        socket_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=0,
        retry=Retry(ExponentialBackoff(cap=0.25, base=0.02), retries),
        retry_on_error=[ConnectionError, TimeoutError, BusyLoadingError],
    )
    return client
