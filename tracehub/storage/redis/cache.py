"""Answers that are remembered for a moment (log-service.md §4).

Guarantee: an answer is given again only while its tenant has had no commit and no deletion since before it was made,
save that of a tenant with more than ten commits a second one may be BEHIND_MS old. Best effort: without Redis every
answer is made anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from tracehub.protocol.errors import TraceHubError
from tracehub.storage.redis import keys, scripts
from tracehub.storage.redis.failures import translated

BEHIND_MS: Final = 2_000
OPEN_TTL_MS: Final = 2_000
CLOSED_TTL_MS: Final = 30_000
BODY_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an answer is kept, and how far its tenant was before it was made."""

    key: str
    commits: bytes
    deletions: bytes


class AnswerCache:
    """Answers by tenant and question."""

    def __init__(self, redis: Redis) -> None:
        self._look = redis.register_script(scripts.CACHED)
        self._remember = redis.register_script(scripts.REMEMBER)

    async def look(self, tenant_id: str, question: str) -> tuple[Slot | None, bytes | None]:
        """The place for an answer (None: Redis is away) and the answer, when one is still true."""
        digest = hashlib.sha256(f"{tenant_id}\0{question}".encode("utf-8", "surrogatepass")).hexdigest()
        key = keys.answer(digest)
        try:
            with translated():
                found = await self._look(keys=[keys.generation(tenant_id), key], args=[BEHIND_MS])
        except TraceHubError:
            return None, None
        return Slot(key, found[0], found[1]), found[2] if len(found) > 2 else None

    async def remember(self, slot: Slot, body: bytes, *, is_open: bool) -> None:
        """`is_open`: the range asked may still grow."""
        if len(body) > BODY_BYTES_MAX:
            return
        ttl_ms = OPEN_TTL_MS if is_open else CLOSED_TTL_MS
        try:
            with translated():
                await self._remember(keys=[slot.key], args=[slot.commits, slot.deletions, body, ttl_ms])
        except TraceHubError:
            return
