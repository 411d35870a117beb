"""Beginnings and endings of a process: what the collector may forget, and tasks that end for certain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Collection, Iterable
from typing import Any, Protocol

ASK_AGAIN_S = 0.5
CLOSE_S = 5.0
COLLECT_EVERY = (10_000, 20, 20)  # objects, then passes of the generation before


def freeze_heap() -> None:
    """Call it when everything is imported. What is there stays until the end, so the cycle collector need not
    walk it again; and it comes less often, because what a request makes has no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)


async def end(tasks: Collection[asyncio.Task[Any]]) -> list[BaseException]:
    """Cancel tasks until they have ended; what they failed with.

    Once is not enough: a library that turns a cancellation into a time-out of its own swallows it, and the
    task would run on while we wait for it.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=ASK_AGAIN_S)
    return [error for task in tasks if not task.cancelled() and (error := task.exception())]


class Pool(Protocol):
    """What has connections to Postgres."""

    async def close(self) -> None:
        """Wait until they are given back, and close them."""


class Client(Protocol):
    """What has connections to Redis."""

    async def aclose(self) -> None:
        """Close them."""


async def close_stores(pools: Iterable[Pool], clients: Iterable[Client]) -> None:
    """All of them; connections that are not given back within CLOSE_S stay as they are."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(pool.close() for pool in pools)), CLOSE_S)
    for client in clients:
        await client.aclose()
