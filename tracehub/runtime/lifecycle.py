"""Beginnings and endings of a process: what the collector may forget, and tasks that end for certain."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Collection
from typing import Any

ASK_AGAIN_S = 0.5
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
