"""Producers' buffers in memory (ports.Buffers), read from a function that shows one service's buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tracehub.protocol.ranges import Range, Ranges, of_numbers
from tracehub.storage.memory.ledger import Pause, no_pause
from tracehub.storage.ports import BufferMeta

View = tuple[Mapping[str, str], Mapping[int, bytes]]  # meta fields, members by number


class MemoryBuffers:
    """`look(tenant_id, service)` gives the meta fields and the members as they are now; it may raise Transient."""

    def __init__(self, look: Callable[[str, str], View], pause: Pause = no_pause) -> None:
        self._look = look
        self._pause = pause

    async def read(
        self, tenant_id: str, service: str, span: Range, most: int
    ) -> tuple[BufferMeta, list[bytes]]:
        """See ports.Buffers."""
        await self._pause()
        meta, members = self._look(tenant_id, service)
        found = [members[n] for n in sorted(members) if span[0] <= n <= span[1]][:most]
        return _meta(meta, len(members)), found

    async def numbers(self, tenant_id: str, service: str) -> tuple[BufferMeta, Ranges]:
        """See ports.Buffers."""
        await self._pause()
        meta, members = self._look(tenant_id, service)
        return _meta(meta, len(members)), of_numbers(members)


def _meta(fields: Mapping[str, str], size: int) -> BufferMeta:
    epoch, following, start = (
        int(fields[name]) if name in fields else None for name in ("epoch", "next", "start")
    )
    return BufferMeta(epoch, following, start, size)
