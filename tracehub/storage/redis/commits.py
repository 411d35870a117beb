"""The commits of the last minutes, in their order (contract: log-service.md §5). Raises Transient.

A position is the id of a Redis stream entry, `<ms>-<n>`. Positions are unknown once Redis has forgotten them: by age,
by number, or with its memory.
"""

from __future__ import annotations

import re
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tracehub.protocol.messages import Committed, decode_committed
from tracehub.storage.redis import keys
from tracehub.storage.redis.failures import translated

START: Final = "0-0"
PAGE: Final = 100
_POSITION = re.compile(r"(\d{1,15})-(\d{1,10})").fullmatch


class Commits:
    """`redis` is used by nobody else while it waits."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def newest(self) -> str:
        """The position of the last commit; START before the first."""
        with translated():
            found = await self._redis.xrevrange(keys.COMMITS, count=1)
        return found[0][0].decode() if found else START

    async def knows(self, position: str, kept_ms: int) -> bool:
        """Whether everything after a position is still here."""
        asked = _read(position)
        if asked is None:
            return False
        with translated():
            try:
                info = await self._redis.xinfo_stream(keys.COMMITS)
            except ResponseError:  # there is no such stream: nothing was committed since Redis started
                return False
            seconds, micros = await self._redis.time()
        last, gone = _read(_text(info["last-generated-id"])), _read(_text(info["max-deleted-entry-id"]))
        assert last is not None
        assert gone is not None
        oldest_ms = seconds * 1000 + micros // 1000 - kept_ms
        return gone <= asked <= last and asked[0] >= oldest_ms

    async def after(self, position: str, wait_ms: int | None = None) -> list[tuple[str, Committed]]:
        """The next PAGE commits after a position; `wait_ms`: for the first, at most so long."""
        with translated():
            found = await self._redis.xread({keys.COMMITS: position}, count=PAGE, block=wait_ms)
        entries: list[Any] = found[0][1] if found else []
        return [(name.decode(), decode_committed(fields[b"c"])) for name, fields in entries]


def _read(position: str) -> tuple[int, int] | None:
    found = _POSITION(position)
    return (int(found[1]), int(found[2])) if found else None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
