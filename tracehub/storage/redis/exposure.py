"""Whether others than this machine reach a backend: backends that do say so, and workers ask before they send alerts to
private addresses (TRACEHUB_ALERT_PRIVATE_URLS=auto). Who cannot ask takes it for so.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from redis.asyncio import Redis

from tracehub.protocol.errors import TraceHubError
from tracehub.storage.redis import keys
from tracehub.storage.redis.failures import translated

SAY_S: Final = 20
TTL_S: Final = 90

assert TTL_S > 2 * SAY_S  # one word that is lost changes nothing


class Exposure:
    """What backends say of how they listen."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def keep_saying(self) -> None:
        """Say that a backend is reached from beyond loopback, until cancelled."""
        while True:
            with contextlib.suppress(TraceHubError), translated():
                await self._redis.set(keys.EXPOSED, b"1", ex=TTL_S)
            await asyncio.sleep(SAY_S)

    async def is_exposed(self) -> bool:
        """Whether one is, as far as is known."""
        try:
            with translated():
                return bool(await self._redis.exists(keys.EXPOSED))
        except TraceHubError:
            return True
