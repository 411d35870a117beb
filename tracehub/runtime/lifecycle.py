"""Ending tasks: synchronous, and certain."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

ASK_AGAIN_S = 0.5


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
