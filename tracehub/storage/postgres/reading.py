"""What people ask of the ledger: services, replays, dead letters, totals. Reads only, save the few decisions
an operator takes (a deleted letter, `reset`). Plain dicts of columns; doors make the words.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import asyncpg

from tracehub.pipeline.completeness import GAPS_MAX, Hole
from tracehub.protocol.messages import StreamKey
from tracehub.protocol.ranges import Ranges
from tracehub.protocol.times import unix_ms
from tracehub.storage.postgres.failures import translated
from tracehub.storage.postgres.multirange import to_text
from tracehub.storage.postgres.queries import SQL

SERVICES_MAX = 10_000


class LedgerReading:
    """Raises Transient when Postgres is out of reach."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def _fetch(self, query: str, *args: Any) -> list[dict[str, Any]]:
        with translated():
            return [dict(row) for row in await self._pool.fetch(query, *args)]

    async def tenants(self) -> list[str]:
        """Every tenant that ever sent something."""
        return [str(row["tenant_id"]) for row in await self._fetch(SQL.tenants)]

    async def services(self, tenant_id: str | None, service: str | None = None) -> list[dict[str, Any]]:
        """The newest epoch of each service, by name. Tenant None here and below: of all tenants."""
        return await self._fetch(SQL.services, tenant_id, service, SERVICES_MAX)

    async def holes(
        self, tenant_id: str | None, services: Collection[str] | None, in_flight: dict[StreamKey, Ranges]
    ) -> list[Hole]:
        """See pipeline.completeness.HolesLedger."""
        rows = await self._fetch(
            SQL.holes,
            tenant_id,
            None if services is None else list(services),
            [stream.numbering for stream in in_flight],
            [stream.epoch for stream in in_flight],
            [to_text(numbers) for numbers in in_flight.values()],
            GAPS_MAX,
            [stream.tenant_id for stream in in_flight],
        )
        return [
            Hole(row["service"], row["count"], row["lost"], *map(_ms, (row["after"], row["before"])))
            for row in rows
        ]

    async def totals(self, tenant_id: str | None, service: str | None = None) -> dict[str, Any]:
        """received, lost, expired, duplicates, conflicts, dead: sums over all streams."""
        return (await self._fetch(SQL.totals, tenant_id, service))[0]

    async def replay_counts(self, tenant_id: str | None, service: str | None = None) -> dict[str, int]:
        """How many replay requests there are of each status."""
        rows = await self._fetch(SQL.replay_counts, tenant_id, service)
        found = {row["status"]: row["count"] for row in rows}
        return {status: found.get(status, 0) for status in ("pending", "running", "completed", "lost")}

    async def replays(
        self, tenant_id: str | None, *, status: str | None, service: str | None, limit: int, offset: int
    ) -> list[dict[str, Any]]:
        """Replay requests, newest first; each row carries `total`."""
        return await self._fetch(SQL.replays, tenant_id, status, service, limit, offset)

    async def replay(
        self, tenant_id: str, replay_id: int, service: str | None = None
    ) -> dict[str, Any] | None:
        """One replay request with its stream."""
        rows = await self._fetch(SQL.replay_by_id, replay_id, tenant_id, service)
        return rows[0] if rows else None

    async def dead_letters(
        self,
        tenant_id: str | None,
        *,
        service: str | None = None,
        reason: str | None = None,
        limit: int = 1,
        offset: int = 0,
        letter_id: int | None = None,
    ) -> list[dict[str, Any]]:
        """Dead letters, newest first; each row carries `total`."""
        return await self._fetch(SQL.dead_letters, tenant_id, service, reason, limit, offset, letter_id)

    async def delete_dead_letter(self, tenant_id: str, letter_id: int, service: str | None = None) -> bool:
        """False when there is none of this id."""
        with translated():
            told = await self._pool.execute(SQL.delete_dead_letter, letter_id, tenant_id, service)
            return told == "DELETE 1"

    async def proof(self, tenant_id: str, service: str | None) -> list[dict[str, Any]]:
        """Every stream as the proof needs it."""
        return await self._fetch(SQL.proof, tenant_id, service)

    async def proof_of_buffer(self, stream_id: int, buffered: Ranges, in_flight: Ranges) -> dict[str, Any]:
        """One stream: its counts, and what of the buffered and in-flight numbers it does not know."""
        rows = await self._fetch(SQL.proof_of_buffer, stream_id, to_text(buffered), to_text(in_flight))
        return rows[0]

    async def sequence(
        self, stream_id: int, window: tuple[int, int], in_flight: Ranges, most: int
    ) -> dict[str, Any]:
        """The ranges of each kind within a window (inclusive), at most so many each; `coarse` names the kinds whose
        ranges are widened to a grid of so many steps for that."""
        rows = await self._fetch(SQL.sequence, stream_id, *window, to_text(in_flight), most)
        shown: dict[str, Any] = {"coarse": [row["kind"] for row in rows if row["is_coarse"]]}
        for row in rows:
            shown[row["kind"]] = list(zip(row["first"] or (), row["last"] or (), strict=True))
        return shown

    async def reset(self) -> None:
        """Counters to zero, finished replays away; logs and ledger stay."""
        with translated():
            await self._pool.execute(SQL.reset_counters)
            await self._pool.execute(SQL.delete_finished_replays)

    async def ready(self) -> bool:
        """Whether Postgres answers and is migrated."""
        with translated():
            return bool(await self._pool.fetchval(SQL.ping))


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else unix_ms(moment)
