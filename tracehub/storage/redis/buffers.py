"""The producers' buffers as the server reads them (ports.Buffers). It never writes there."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from tracehub.protocol.ranges import EMPTY, Range, Ranges, normalise
from tracehub.storage.ports import BufferMeta
from tracehub.storage.redis import keys
from tracehub.storage.redis.failures import translated


class RedisBuffers:
    """Meta and members are read in one MULTI, so that they belong together."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    async def read(
        self, tenant_id: str, service: str, span: Range, most: int
    ) -> tuple[BufferMeta, list[bytes]]:
        """See ports.Buffers."""
        with translated():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(keys.producer_meta(tenant_id, service))
                pipe.zcard(keys.producer_buffer(tenant_id, service))
                pipe.zrangebyscore(keys.producer_buffer(tenant_id, service), *span, start=0, num=most)
                meta, size, members = await pipe.execute()
        return _meta(meta, size), members

    async def numbers(self, tenant_id: str, service: str) -> tuple[BufferMeta, Ranges]:
        """See ports.Buffers. A buffer without holes, which is the rule, costs one round trip; another one is
        halved by ZCOUNT until every piece is either full or empty: members themselves never travel."""
        buffer = keys.producer_buffer(tenant_id, service)
        with translated():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(keys.producer_meta(tenant_id, service))
                pipe.zcard(buffer)
                pipe.zrange(buffer, 0, 0, withscores=True)
                pipe.zrange(buffer, -1, -1, withscores=True)
                fields, size, first, last = await pipe.execute()
            if not size:
                return _meta(fields, size), EMPTY
            span = (int(first[0][1]), int(last[0][1]))
            return _meta(fields, size), await self._filled(buffer, span, size)

    async def _filled(self, buffer: str, span: Range, size: int) -> Ranges:
        full: list[Range] = []
        open_spans = [(span, size)]
        while open_spans:
            halves: list[Range] = []
            for (low, high), count in open_spans:
                if count == high - low + 1:
                    full.append((low, high))
                elif count:
                    middle = (low + high) // 2
                    halves += [(low, middle), (middle + 1, high)]
            async with self.redis.pipeline(transaction=True) as pipe:
                for low, high in halves:
                    pipe.zcount(buffer, low, high)
                counts = await pipe.execute()
            open_spans = list(zip(halves, counts, strict=True))
        return normalise(full)


def _meta(fields: dict[bytes, bytes], size: int) -> BufferMeta:
    def number(name: bytes) -> int | None:
        value: Any = fields.get(name)
        return int(value) if value is not None and value.isdigit() else None

    return BufferMeta(number(b"epoch"), number(b"next"), number(b"start"), size)
