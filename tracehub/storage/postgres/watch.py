"""Frees locks that a stopped worker holds (ingest.md §3).

A worker that is only stopped keeps its transaction and its locks, and no time-out setting of Postgres frees
them. Who waits longer than `patience_s` looks who holds what it waits for; a holder that is a worker whose
heartbeat is gone has its connection ended. It wakes to a closed connection and starts anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import structlog

from tracehub.storage.postgres.connect import parse_worker_application
from tracehub.storage.postgres.queries import SQL

log = structlog.get_logger()


class LockWatch:
    """`pool` is to look with, and another one than theirs who wait: they may hold all its connections.
    `is_alive(worker_id, incarnation)` asks for the heartbeat; it raises when it cannot tell."""

    def __init__(
        self, pool: asyncpg.Pool, is_alive: Callable[[str, str], Awaitable[bool]], patience_s: float = 2.0
    ) -> None:
        self._pool = pool
        self._is_alive = is_alive
        self._patience_s = patience_s

    @asynccontextmanager
    async def watching(self, pid: int) -> AsyncIterator[None]:
        """Watch the connection with this server pid for as long as the block runs."""
        loop = asyncio.get_running_loop()
        looking: list[asyncio.Task[None]] = []
        timer = loop.call_later(self._patience_s, lambda: looking.append(loop.create_task(self._look(pid))))
        try:
            yield
        finally:
            timer.cancel()
            for task in looking:
                task.cancel()

    async def _look(self, pid: int) -> None:
        while True:
            try:
                for row in await self._pool.fetch(SQL.blockers, pid):
                    await self._free(row["pid"], row["application_name"])
            except Exception as error:
                log.warning("lock_watch.failed", error=type(error).__name__)
            await asyncio.sleep(self._patience_s / 4)

    async def _free(self, pid: int, application: str) -> None:
        worker = parse_worker_application(application)
        if worker is None or await self._is_alive(*worker):
            return
        # The name goes along: the pid may have passed to another connection meanwhile.
        await self._pool.execute(SQL.terminate, pid, application)
        log.warning("lock_watch.terminated", worker=worker[0], incarnation=worker[1])
