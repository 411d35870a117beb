"""Alerts and their deliveries in Postgres. All of it raises Transient when Postgres is out of reach or not migrated.

`fetch` runs the questions about entries within their time (QueryTimeout); the rest is by primary key or by the index of
what is due.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import asyncpg

from tracehub.pipeline.alerts import NewDelivery
from tracehub.protocol.alerts import PER_TENANT_MAX, Alert, AlertRule
from tracehub.protocol.channels import Channel
from tracehub.protocol.errors import Conflict
from tracehub.protocol.logentry import stored_entry
from tracehub.protocol.times import iso, moment_of, unix_ms
from tracehub.storage.postgres.failures import translated
from tracehub.storage.postgres.queries import SQL
from tracehub.storage.postgres.search import Conditions, Fetch, where_of


@dataclass(frozen=True, slots=True)
class Reach:
    """Whose alerts somebody reaches; None: of any tenant, of any service."""

    tenant_id: str | None = None
    app_key: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery that is this worker's for the time of an attempt."""

    id: uuid.UUID
    alert_id: uuid.UUID
    channel: Channel
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a delivery."""

    status: str
    http_status: int | None = None
    error: str | None = None
    next_ms: int | None = None
    finished_ms: int | None = None


class AlertStore:
    """The tables `alerts` and `alert_deliveries`, and what alerts ask of `logs`."""

    def __init__(self, pool: asyncpg.Pool, fetch: Fetch) -> None:
        self._pool = pool
        self._fetch = fetch

    async def _rows(self, query: str, *args: Any) -> list[Any]:
        with translated():
            return list(await self._pool.fetch(query, *args))

    # ------------------------------------------------------------------ documents

    async def enabled(self) -> list[Alert]:
        """Every alert that is on."""
        return [_alert(row) for row in await self._rows(SQL.alerts_enabled)]

    async def listed(self, reach: Reach) -> list[Alert]:
        """Oldest first."""
        return [_alert(row) for row in await self._rows(SQL.list_alerts, reach.tenant_id, reach.app_key)]

    async def find(self, alert_id: uuid.UUID, reach: Reach) -> Alert | None:
        """One of those that are reached."""
        rows = await self._rows(SQL.alert_by_id, alert_id, reach.tenant_id, reach.app_key)
        return _alert(rows[0]) if rows else None

    async def create(self, tenant_id: str, app_key: str | None, rule: AlertRule, now_ms: int) -> Alert:
        """Keep a new alert. Raises Conflict when the tenant has PER_TENANT_MAX."""
        with translated():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(SQL.alert_lock, tenant_id)
                row = await connection.fetchrow(
                    SQL.insert_alert,
                    uuid.uuid4(), tenant_id, app_key, *_columns(rule), now_ms, PER_TENANT_MAX,
                )  # fmt: skip
        if row is None:
            raise Conflict(f"a tenant has at most {PER_TENANT_MAX} alerts")
        return _alert(row)

    async def update(self, alert: Alert, rule: AlertRule, now_ms: int) -> Alert | None:
        """Change an alert as it was read; None when somebody else changed it meanwhile."""
        rows = await self._rows(
            SQL.update_alert, uuid.UUID(alert.id), alert.updated_ms, *_columns(rule), now_ms
        )
        return _alert(rows[0]) if rows else None

    async def delete(self, alert_id: uuid.UUID, reach: Reach) -> None:
        """With its deliveries; again is fine."""
        await self._rows(SQL.delete_alert, alert_id, reach.tenant_id, reach.app_key)

    # ------------------------------------------------------------------ when to trigger (pipeline.alerts.AlertLedger)

    async def reaches(self, alert: Alert, start_ms: int, least: int) -> bool:
        """See AlertLedger."""
        where = _window(alert, start_ms)
        return int((await self._fetch(SQL.alert_reaches.format(where, least), where.args))[0]["n"]) >= least

    async def matched_since(self, alert: Alert, start_ms: int, since_ms: int) -> bool:
        """See AlertLedger."""
        where = _window(alert, start_ms)
        where.add(f"created_at > {where.put(moment_of(since_ms))}")
        return bool((await self._fetch(SQL.alert_reaches.format(where, 1), where.args))[0]["n"])

    async def sighted(
        self, alert: Alert, start_ms: int
    ) -> tuple[int, dict[str, Any] | None, dict[str, Any] | None]:
        """See AlertLedger."""
        where = _window(alert, start_ms)
        count = (await self._fetch(SQL.alert_reaches.format(where, "all"), where.args))[0]["n"]
        ends = []
        for order in ("", " desc"):
            text = f"{SQL.select_logs} where {where} order by ts{order}, id{order} limit 1"
            rows = await self._fetch(text, where.args)
            ends.append(stored_entry(rows[0]) if rows else None)
        return int(count), ends[0], ends[1]

    async def claim(self, alert: Alert, now_ms: int, deliveries: Sequence[NewDelivery]) -> bool:
        """See AlertLedger."""
        rows = await self._rows(
            SQL.claim_alert, uuid.UUID(alert.id), now_ms, *_delivery_columns(deliveries), alert.updated_ms
        )
        return bool(rows)

    # ------------------------------------------------------------------ deliveries

    async def add_deliveries(self, alert_id: str, now_ms: int, deliveries: Sequence[NewDelivery]) -> None:
        """Some that nothing triggered."""
        await self._rows(SQL.insert_deliveries, uuid.UUID(alert_id), now_ms, *_delivery_columns(deliveries))

    async def deliveries(self, alert_id: str, limit: int, offset: int) -> list[dict[str, Any]]:
        """Newest first, as answers have them."""
        rows = await self._rows(SQL.list_deliveries, uuid.UUID(alert_id), limit, offset)
        return [_shown(row) for row in rows]

    async def take(self, now_ms: int, lease_ms: int, most: int) -> list[Taken]:
        """What is due, leased to the caller. A call that is cancelled may leave a lease that nobody uses."""
        rows = await self._rows(SQL.take_deliveries, now_ms, now_ms + lease_ms, most)
        return [
            Taken(row["id"], row["alert_id"], json.loads(row["channel"]), bytes(row["body"]), row["attempts"])
            for row in rows
        ]

    async def settle(self, taken: Taken, result: Result) -> None:
        """Write down what became of an attempt."""
        await self._rows(
            SQL.settle_delivery, taken.id, taken.attempts, result.status, result.http_status, result.error,
            result.next_ms, result.finished_ms,
        )  # fmt: skip

    async def disable(self, alert_id: uuid.UUID, channel: Channel, now_ms: int) -> None:
        """Switch a channel off, as far as the alert still has it."""
        await self._rows(SQL.disable_channel, alert_id, json.dumps(channel), now_ms)

    async def forget(self) -> None:
        """Drop deliveries older than 30 days."""
        await self._rows(SQL.forget_deliveries)


def _window(alert: Alert, start_ms: int) -> Conditions:
    """Entries that count: by their time, and by their receipt where they came from the future. The earlier of both
    must lie in the window, so both must."""
    wanted = replace(alert.wanted(), start_ms=start_ms)
    where = where_of(alert.tenant_id, wanted)
    where.add(f"created_at >= {where.put(moment_of(start_ms))}")
    return where


def _columns(rule: AlertRule) -> tuple[Any, ...]:
    return (
        rule.name, rule.description, rule.enabled, json.dumps(rule.filter), rule.threshold, rule.window_mins,
        rule.severity, rule.cooldown_mins, json.dumps(rule.channels),
    )  # fmt: skip


def _delivery_columns(deliveries: Sequence[NewDelivery]) -> tuple[list[Any], ...]:
    return (
        [str(d.id) for d in deliveries],
        [json.dumps(d.channel) for d in deliveries],
        [d.body for d in deliveries],
    )


def _alert(row: Any) -> Alert:
    rule = AlertRule(
        row["name"],
        json.loads(row["filter"], parse_int=_narrow),
        row["threshold"],
        row["description"],
        row["enabled"],
        row["window_mins"],
        row["severity"],
        row["cooldown_mins"],
        tuple(json.loads(row["channels"])),
    )
    return Alert(
        str(row["id"]),
        str(row["tenant_id"]),
        rule,
        unix_ms(row["created_at"]),
        unix_ms(row["updated_at"]),
        None if row["last_triggered"] is None else unix_ms(row["last_triggered"]),
        row["app_key"],
    )


def _narrow(digits: str) -> int | float:
    """An integer that encoders take: one beyond 64 bits is the double it is read as."""
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else iso(unix_ms(moment))


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "alert_id": str(row["alert_id"]),
        "type": row["type"],
        "status": row["status"],
        "attempts": row["attempts"],
        "http_status": row["http_status"],
        "error": row["error"],
        "created_at": _time(row["created_at"]),
        "next_attempt_at": _time(row["next_attempt_at"]),
        "finished_at": _time(row["finished_at"]),
    }
