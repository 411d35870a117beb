"""Ending tasks."""

from __future__ import annotations

import asyncio

from tracehub.runtime.lifecycle import end


async def test_ends_a_task_that_swallows_a_cancellation() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed += 1

    task = asyncio.create_task(stubborn())
    await asyncio.wait([task], timeout=0.01)
    assert await end([task]) == []
    assert (swallowed, task.cancelled()) == (1, True)


async def test_tells_what_tasks_failed_with() -> None:
    async def fails() -> None:
        raise ValueError("no")

    failed = asyncio.create_task(fails())
    await asyncio.wait([failed])
    (error,) = await end([failed])
    assert isinstance(error, ValueError)
    assert await end([]) == []
