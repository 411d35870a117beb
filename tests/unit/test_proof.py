"""The proof while everything moves. What moves between two looks is scripted here; the rest is proved on Postgres."""

from __future__ import annotations

from typing import Any

import pytest

from tracehub.pipeline.proof import prove
from tracehub.protocol.ranges import Ranges
from tracehub.storage.ports import BufferMeta
from tracehub.storage.redis.keys import ZERO_TENANT

ROW = {
    "stream_id": 1, "service": "shop", "epoch": 1, "ack_till": 1, "void": 0, "duplicates": 0, "conflicts": 0,
    "expired": 0,
}  # fmt: skip


class Moving:
    """A ledger that holds 1 and 3, a buffer that is looked into once before 2 is in it, then after; no marks."""

    def __init__(self, late: int) -> None:
        self.looks = 0
        self._late = late

    async def proof(self, tenant_id: str, service: str | None) -> list[dict[str, Any]]:
        return [dict(ROW)]

    async def proof_of_buffer(self, stream_id: int, buffered: Ranges, in_flight: Ranges) -> dict[str, Any]:
        counts = {"received": 2, "lost": 0, "highest": 3, "in_flight": 0}
        return {**counts, "buffered": 1 if buffered == ((2, 2),) else 0}

    async def numbers(self, tenant_id: str, service: str) -> tuple[BufferMeta, Ranges]:
        self.looks += 1
        return BufferMeta(1, 4, 1, 1), ((2, 2),) if self.looks > self._late else ()

    async def marks(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("late", "balanced", "looks"), [(0, True, 1), (1, True, 2), (2, True, 3), (9, False, 3)]
)
async def test_stream_that_does_not_balance_is_looked_at_again(late: int, balanced: bool, looks: int) -> None:
    world: Any = Moving(late)
    told = await prove(world, world, world, tenant_id=ZERO_TENANT)
    assert (told["balanced"], world.looks) == (balanced, looks)
    assert told["totals"]["unaccounted"] == (0 if balanced else 1)
