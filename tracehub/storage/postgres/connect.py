"""Connection pools: UTC, READ COMMITTED, commits that wait for the disk, and a name that others can read."""

from __future__ import annotations

import asyncpg

WORKER_PREFIX = "tracehub-worker:"
POOL_MAX = 8


def open_pool(url: str, application: str, *, most: int = POOL_MAX, lock_wait_ms: int = 0) -> asyncpg.Pool:
    """A pool for one process; await it before use. Postgres need not be up yet.

    `application` shows in pg_stat_activity; workers put their incarnation there. A statement that waits longer
    than `lock_wait_ms` for somebody's lock fails (Transient); 0: it waits for ever.
    """
    return asyncpg.create_pool(
        url,
        min_size=0,
        max_size=most,
        command_timeout=None,
        reset=_keep_session,
        timeout=10,
        # Without a home directory that can be read asyncpg fails over its TLS defaults, so say it here.
        ssl=None if "sslmode=" in url else False,
        server_settings={
            "application_name": application,
            "TimeZone": "UTC",
            "synchronous_commit": "on",
            "default_transaction_isolation": "read committed",
            "jit": "off",
            "lock_timeout": str(lock_wait_ms),
        },
    )


def shared(most: int, larger: int, lesser: int) -> tuple[int, int]:
    """How many connections two pools of a process get that want so many, when it may have `most` (2 at least):
    what they want, else in proportion, and one each at least."""
    if larger + lesser <= most:
        return larger, lesser
    rest = max(1, most * lesser // (larger + lesser))
    return most - rest, rest


async def _keep_session(_: object) -> None:
    """We never change a session's state, so returning a connection needs no round trip to undo it."""


def worker_application(worker_id: str, incarnation: str) -> str:
    """The application name of a worker's connections (ingest.md §3); at most 63 bytes reach Postgres."""
    return f"{WORKER_PREFIX}{worker_id[:24]}:{incarnation}"


def parse_worker_application(name: str) -> tuple[str, str] | None:
    """(worker id, incarnation) of a connection of ours, else None."""
    if not name.startswith(WORKER_PREFIX):
        return None
    worker_id, _, incarnation = name.removeprefix(WORKER_PREFIX).rpartition(":")
    return (worker_id, incarnation) if worker_id else None
