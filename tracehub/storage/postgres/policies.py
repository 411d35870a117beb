"""Retention policies and runs in Postgres, as doors and schedules see them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import asyncpg

from tracehub.protocol.retention import Policy
from tracehub.protocol.times import iso, moment_of, unix_ms
from tracehub.storage.postgres.failures import translated
from tracehub.storage.postgres.queries import SQL

RUNS_MAX: Final = 100


class Policies:
    """All operations raise Transient when Postgres is out of reach or not migrated. Tenant None: any."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def of(self, tenant_id: str | None) -> list[dict[str, Any]]:
        """The policy of a tenant, or all of them, oldest first."""
        with translated():
            return [_shown(row) for row in await self._pool.fetch(SQL.policies, tenant_id)]

    async def create(self, tenant_id: str, policy: Policy) -> dict[str, Any] | None:
        """A new policy; None when the tenant has one."""
        with translated():
            row = await self._pool.fetchrow(SQL.insert_policy, uuid.uuid4(), tenant_id, *_columns(policy))
        return None if row is None else _shown(row)

    async def change(
        self, policy_id: uuid.UUID, tenant_id: str | None, change: Callable[[Policy], Policy]
    ) -> dict[str, Any] | None:
        """Make another one of a policy, nobody in between; None when there is none of this id and tenant. What `change`
        raises goes on, and nothing is changed."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(SQL.lock_policy, policy_id, tenant_id)
                if row is None:
                    return None
                columns = _columns(change(policy_of(row)))
                return _shown((await connection.fetch(SQL.update_policy, policy_id, *columns))[0])

    async def delete(self, policy_id: uuid.UUID, tenant_id: str | None) -> None:
        """Again is fine."""
        with translated():
            await self._pool.execute(SQL.delete_policy, policy_id, tenant_id)

    async def ask_run(
        self, tenant_id: str | None = None, *, dry_run: bool = False, due_ms: int | None = None
    ) -> str:
        """Somebody wants a run (tenant None: of all); of those with the same `due_ms` there is one."""
        run_id = uuid.uuid4()
        due = None if due_ms is None else moment_of(due_ms)
        with translated():
            await self._pool.execute(SQL.ask_run, run_id, tenant_id, dry_run, due)
        return str(run_id)

    async def runs(self, tenant_id: str | None) -> list[dict[str, Any]]:
        """The newest RUNS_MAX."""
        with translated():
            rows = await self._pool.fetch(SQL.runs, tenant_id, RUNS_MAX)
        return [
            {
                "id": str(row["id"]),
                "started_at": _iso(row["started_at"]),
                "finished_at": _iso(row["finished_at"]),
                **{
                    name: row[name]
                    for name in (
                        "dry_run", "archived", "deleted_rows", "dropped_partitions", "error", "tenants",
                    )
                },
            }
            for row in rows
        ]  # fmt: skip


def policy_of(row: Any) -> Policy:
    """One row as a value."""
    return Policy(row["retention_days"], row["max_size_gb"], row["archive_enabled"], row["archive_path"])


def _columns(policy: Policy) -> tuple[int, float, bool, str | None]:
    return policy.retention_days, policy.max_size_gb, policy.archive_enabled, policy.archive_path


def _shown(row: Any) -> dict[str, Any]:
    size = row["max_size_gb"]
    return {
        "id": str(row["id"]),
        "tenant_id": str(row["tenant_id"]),
        "retention_days": row["retention_days"],
        "max_size_gb": int(size) if size.is_integer() else size,
        "archive_enabled": row["archive_enabled"],
        "archive_path": row["archive_path"],
        "created_at": iso(unix_ms(row["created_at"])),
        "updated_at": iso(unix_ms(row["updated_at"])),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso(unix_ms(moment))
