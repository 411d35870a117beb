"""How many sockets each backend has, by tenant: told every second, forgotten after LOST_MS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import Final, cast

import msgspec
from redis.asyncio import Redis

from tracehub.storage.redis import keys
from tracehub.storage.redis.failures import translated

LOST_MS: Final = 5_000
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, dict[str, int]]).decode


class Presence:
    """What one backend says, and hears of the others. Raises Transient."""

    def __init__(self, redis: Redis, backend_id: str) -> None:
        self._redis = redis
        self._backend_id = backend_id

    async def tell(self, here: Mapping[str, int]) -> Counter[str]:
        """Say how many are here; how many are elsewhere."""
        with translated():
            seconds, micros = await self._redis.time()
            now_ms = seconds * 1000 + micros // 1000
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hset(keys.SOCKETS, self._backend_id, cast(str, _encode((now_ms, dict(here)))))
                pipe.hgetall(keys.SOCKETS)
                _, everywhere = await pipe.execute()
            elsewhere: Counter[str] = Counter()
            for name, told in everywhere.items():
                at_ms, counts = _decode(told)
                if now_ms - at_ms > LOST_MS:
                    await cast(Awaitable[int], self._redis.hdel(keys.SOCKETS, name))
                elif name.decode() != self._backend_id:
                    elsewhere.update(counts)
        return elsewhere
