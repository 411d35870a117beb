"""`tracehub keys`: against the database itself, so it works before there is a key, and when the last one is lost."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from apps.admin.show import show
from apps.admin.verify_command import addresses
from tracehub.protocol import credentials
from tracehub.protocol.errors import InvalidField, TraceHubError
from tracehub.protocol.grants import read_new_key
from tracehub.runtime.clock import now_ms, random_bytes
from tracehub.runtime.settings import Settings
from tracehub.storage.postgres.keys import KeyStore

COLUMNS = ("id", "name", "scopes", "tenant_id", "app_key", "doors", "rate", "expires_at", "created_at")

R = TypeVar("R")


def list_keys(settings: Settings, *, as_json: bool) -> int:
    """Every key that is not revoked; the exit status."""
    return _told(settings, lambda store: store.listed(), lambda rows: _show(rows, as_json=as_json))


def create_key(settings: Settings, body: dict[str, Any], *, as_json: bool) -> int:
    """Make a key and print it, this once; the exit status. `body` as of POST /api/v1/keys."""
    key = credentials.make_key(random_bytes(credentials.RANDOM_BYTES))

    def tell(made: dict[str, Any]) -> int:
        if as_json:
            show({**made, "key": key}, COLUMNS, as_json=True, nothing="")
        else:
            print(key)
            print(
                f"Its id is {made['id']}. It is shown this once, and valid within seconds.", file=sys.stderr
            )
        return 0

    try:
        wanted = read_new_key(body, now_ms())
    except TraceHubError as refusal:
        field = refusal.field if isinstance(refusal, InvalidField) else "tenant"
        print(f"{field}: {refusal.message}", file=sys.stderr)
        return 2
    return _told(settings, lambda store: store.create(wanted, credentials.digest(key)), tell)


def revoke_key(settings: Settings, key_id: str) -> int:
    """End a key, everywhere within 5 s; the exit status."""
    try:
        wanted = uuid.UUID(key_id)
    except ValueError:
        print(f"{key_id} is not the id of a key", file=sys.stderr)
        return 2

    def tell(was_there: bool) -> int:
        if not was_there:
            print(f"there is no key {wanted}", file=sys.stderr)
        return 0 if was_there else 1

    return _told(settings, lambda store: store.revoke(wanted), tell)


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> int:
    plain = rows if as_json else [{**row, "scopes": " ".join(row["scopes"])} for row in rows]
    show(plain, COLUMNS, as_json=as_json, nothing="There are no keys in the database.")
    return 0


def _told(settings: Settings, ask: Callable[[KeyStore], Awaitable[R]], tell: Callable[[R], int]) -> int:
    async def run() -> R:
        url = addresses(settings).database
        connection = await asyncpg.connect(url, ssl=None if "sslmode=" in url else False)
        try:
            return await ask(KeyStore(connection))
        finally:
            await connection.close()

    try:
        answer = asyncio.run(run())
    except (TraceHubError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"the database cannot be asked ({type(error).__name__}); is it migrated?", file=sys.stderr)
        return 1
    return tell(answer)
