"""Closing numbers that the server gave and nobody stored: a task of every worker and no cron, because what one look saw
is compared with what the same worker saw before."""

from __future__ import annotations

import asyncio

import structlog

from tracehub.pipeline.void import VOID_AFTER_S, close_void
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.ranges import Ranges
from tracehub.storage.ports import Ledger, Queue

log = structlog.get_logger()


async def keep_closing(ledger: Ledger, queue: Queue) -> None:
    """Look until cancelled."""
    unstored: dict[int, Ranges] = {}
    while True:
        await asyncio.sleep(VOID_AFTER_S)
        try:
            unstored, closed = await close_void(ledger, queue, unstored)
        except TraceHubError as trouble:
            log.warning("void.not_closed", reason=trouble.message)
            continue
        if closed:
            log.info("void.closed", count=closed)
