"""A server whose entries grow old: written over HTTP, their `created_at` set back by SQL, runs waited for."""

from __future__ import annotations

import gzip
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.eventually import eventually
from tests.integration.conftest import Deployment
from tracehub.protocol.tenants import DEFAULT_TENANT
from tracehub.protocol.times import iso, unix_ms
from tracehub.storage.postgres.verify import verify

RUN_S = 60.0


def ago(days: float, seconds: float = 0.0) -> str:
    """A time so many days and seconds ago."""
    return iso(unix_ms(datetime.now(UTC) - timedelta(days=days, seconds=seconds)))


def entries(count: int, timestamp: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"service_name": "old", "message": f"entry {n}", "timestamp": timestamp, "metadata": {"n": n}, **more}
        for n in range(count)
    ]


@dataclass
class Kept:
    """One tenant of a deployment."""

    deployment: Deployment
    connection: asyncpg.Connection
    client: httpx.AsyncClient
    tenant: str
    archives: Path

    async def write(self, wanted: list[dict[str, Any]]) -> None:
        for at in range(0, len(wanted), 5_000):
            body = {"entries": wanted[at : at + 5_000]}
            answer = await self.client.post("/api/v1/logs/batch", json=body)
            assert answer.status_code == 201, answer.text

    async def age(self, days: float = 1_000) -> None:
        """All that the tenant has was written so long ago."""
        await self.connection.execute(
            "update logs set created_at = now() - $2 * interval '1 day' where tenant_id = $1",
            self.tenant,
            days,
        )

    async def policy(self, **wanted: Any) -> dict[str, Any]:
        answer = await self.client.post("/api/v1/retention", json=wanted)
        assert answer.status_code == 201, answer.text
        told: dict[str, Any] = answer.json()["data"]
        return told

    async def ask(self, *, dry_run: bool = False, **headers: str) -> str:
        answer = await self.client.post(
            "/api/v1/retention/run", params={"dry_run": str(dry_run).lower()}, json={}, headers=headers
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["data"]["run_id"])

    async def ask_all(self) -> str:
        """A run of all tenants, asked for by somebody who names none."""
        async with httpx.AsyncClient(base_url=self.deployment.url, trust_env=False) as anybody:
            answer = await anybody.post("/api/v1/retention/run", json={})
        return str(answer.json()["data"]["run_id"])

    async def told(self, run_id: str) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self.deployment.url, trust_env=False) as anybody:
            runs = (await anybody.get("/api/v1/retention/runs")).json()["data"]
        return next((run for run in runs if run["id"] == run_id), {})

    async def run(self, *, dry_run: bool = False) -> dict[str, Any]:
        """A run of this tenant, from its beginning to its end."""
        return await self.ended(await self.ask(dry_run=dry_run))

    async def ended(self, run_id: str) -> dict[str, Any]:
        async def is_over() -> dict[str, Any]:
            found = await self.told(run_id)
            return found if found.get("finished_at") else {}

        return await eventually(is_over, RUN_S)

    async def rows(self) -> list[str]:
        """The messages of the tenant's rows, in their order."""
        found = await self.connection.fetch(
            "select message from logs where tenant_id = $1 order by ts, id", self.tenant
        )
        return [row["message"] for row in found]

    async def shown(self) -> list[dict[str, Any]]:
        """Its LogEntries as the door shows them, oldest first."""
        found: list[dict[str, Any]] = []
        query: dict[str, Any] = {"order": "asc", "page_size": 1000}
        while True:
            page = (
                await self.client.get("/api/v1/logs", params=query, headers={"Cache-Control": "no-cache"})
            ).json()["data"]
            found += page["entries"]
            if not page["has_more"]:
                return found
            query["cursor"] = page["next_cursor"]

    async def total(self) -> int:
        """What the statistics count of all time."""
        answer = await self.client.get(
            "/api/v1/logs/stats", params={"start": "2000-01-01T00:00:00Z", "end": ago(-1)}
        )
        return int(answer.json()["data"]["total_count"])

    def archived(self, folder: str) -> dict[str, list[dict[str, Any]]]:
        """The lines of each archive below a folder, by its path."""
        base = self.archives / folder
        return {
            str(path.relative_to(base)): [
                json.loads(line) for line in gzip.open(path, "rb").read().splitlines()
            ]
            for path in sorted(base.rglob("*.gz"))
        }

    async def is_sound(self) -> None:
        """The ledger fits the rows, the proofs balance, statistics are what a count of the rows is."""
        found = await verify(self.deployment.database)
        assert found.differences == []
        for query, tenant in (({}, self.tenant), ({"service": "@logs"}, DEFAULT_TENANT)):
            proof = (await self.client.get("/proof", params=query, headers={"X-Tenant-ID": tenant})).json()
            assert proof["balanced"], proof
        assert await self.total() == len(await self.rows())
        orphans = await self.connection.fetchval(
            "select count(*) from entry_ids e where tenant_id = $1 and not exists"
            " (select from logs l where (l.tenant_id, l.ts, l.id) = (e.tenant_id, e.ts, e.id))",
            self.tenant,
        )
        assert orphans == 0

    async def expired(self) -> int:
        """How many numbers are expired, of whichever tenant; the server's own numberings are the default one's."""
        return int(await self.connection.fetchval("select sum(numbers_in(expired)) from ack_state"))


def a_tenant() -> str:
    return str(uuid.uuid4())
