"""The producers' buffers as the server reads them (ports.Buffers). It never writes there."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from tracehub.protocol.ranges import Ranges
from tracehub.storage.ports import BufferMeta
from tracehub.storage.redis import keys
from tracehub.storage.redis.failures import translated


class RedisBuffers:
    """Meta and members are read in one MULTI, so that they belong together."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    async def read(
        self, tenant_id: str, service: str, first: int, last: int, most: int
    ) -> tuple[BufferMeta, list[bytes]]:
        """See ports.Buffers."""
        with translated():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(keys.producer_meta(tenant_id, service))
                pipe.zcard(keys.producer_buffer(tenant_id, service))
                pipe.zrangebyscore(keys.producer_buffer(tenant_id, service), first, last, start=0, num=most)
                meta, size, members = await pipe.execute()
        return _meta(meta, size), members

    async def count(self, tenant_id: str, service: str, ranges: Ranges) -> tuple[BufferMeta, int]:
        """See ports.Buffers."""
        buffer = keys.producer_buffer(tenant_id, service)
        with translated():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(keys.producer_meta(tenant_id, service))
                pipe.zcard(buffer)
                for first, last in ranges:
                    pipe.zcount(buffer, first, last)
                meta, size, *counts = await pipe.execute()
        return _meta(meta, size), sum(counts)


def _meta(fields: dict[bytes, bytes], size: int) -> BufferMeta:
    def number(name: bytes) -> int | None:
        value: Any = fields.get(name)
        return int(value) if value is not None and value.isdigit() else None

    return BufferMeta(number(b"epoch"), number(b"next"), number(b"start"), size)
