"""Keys and logins in Postgres. Of both only digests are kept: who reads the tables can do nothing with them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from tracehub.protocol.grants import Grant, NewKey, with_implied
from tracehub.protocol.times import iso, moment_of, unix_ms
from tracehub.storage.postgres.failures import translated
from tracehub.storage.postgres.queries import SQL

LOGINS_PER_KEY_MAX = 100


@dataclass(frozen=True, slots=True)
class Login:
    """A browser that showed a key."""

    key_digest: bytes
    expires_ms: int


class KeyStore:
    """All operations raise Transient when Postgres is out of reach or not migrated."""

    def __init__(self, pool: asyncpg.Pool | asyncpg.Connection) -> None:
        self._pool = pool

    async def _fetch(self, query: str, *args: Any) -> list[Any]:
        with translated():
            return list(await self._pool.fetch(query, *args))

    async def grants(self) -> list[Grant]:
        """Every key that is not revoked; expired ones, too."""
        return [_grant(row) for row in await self._fetch(SQL.keys_alive)]

    async def logins(self) -> dict[bytes, Login]:
        """Every login that has not expired, by its digest."""
        rows = await self._fetch(SQL.logins_alive)
        return {bytes(r["digest"]): Login(bytes(r["key_digest"]), unix_ms(r["expires_at"])) for r in rows}

    async def create(self, wanted: NewKey, digest: bytes) -> dict[str, Any]:
        """Keep a new key; how it is shown (without the key itself, which nobody keeps)."""
        rows = await self._fetch(
            SQL.insert_key,
            uuid.uuid4(), wanted.name, digest, list(wanted.scopes), wanted.tenant_id, wanted.app_key,
            None if wanted.doors is None else list(wanted.doors), wanted.rate, _moment(wanted.expires_ms),
        )  # fmt: skip
        return _shown(rows[0])

    async def listed(self, tenant_id: str | None = None, app_key: str | None = None) -> list[dict[str, Any]]:
        """The keys of a tenant and of a service (None: of all), oldest first."""
        return [_shown(row) for row in await self._fetch(SQL.list_keys, tenant_id, app_key)]

    async def revoke(
        self, key_id: uuid.UUID, tenant_id: str | None = None, app_key: str | None = None
    ) -> bool:
        """End a key and its logins; again is fine. False when there is none of this id, tenant and service."""
        return bool(await self._fetch(SQL.revoke_key, key_id, tenant_id, app_key))

    async def log_in(self, digest: bytes, login: Login) -> None:
        """Keep a login; of each key the newest LOGINS_PER_KEY_MAX stay."""
        await self._fetch(
            SQL.insert_login, digest, login.key_digest, moment_of(login.expires_ms), LOGINS_PER_KEY_MAX - 1
        )

    async def log_out(self, digest: bytes) -> None:
        """Forget a login; again is fine."""
        await self._fetch(SQL.delete_login, digest)


def _moment(ms: int | None) -> datetime | None:
    return None if ms is None else moment_of(ms)


def _grant(row: Any) -> Grant:
    return Grant(
        str(row["id"]),
        bytes(row["digest"]),
        with_implied(row["scopes"]),
        None if row["tenant_id"] is None else str(row["tenant_id"]),
        row["app_key"],
        None if row["doors"] is None else frozenset(row["doors"]),
        row["rate"],
        None if row["expires_at"] is None else unix_ms(row["expires_at"]),
    )


def _shown(row: Any) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "name": row["name"],
        "scopes": list(row["scopes"]),
        "tenant_id": None if row["tenant_id"] is None else str(row["tenant_id"]),
        "app_key": row["app_key"],
        "doors": None if row["doors"] is None else list(row["doors"]),
        "rate": row["rate"],
        "expires_at": None if row["expires_at"] is None else iso(unix_ms(row["expires_at"])),
        "created_at": iso(unix_ms(row["created_at"])),
    }
