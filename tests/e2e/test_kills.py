"""Each part is killed with -9 under load; nothing that was acknowledged is missing, nothing is stored twice."""

from __future__ import annotations

import random

import pytest

from tests.e2e.load import Load
from tests.e2e.stack import Stack

PARTS = ("worker-1", "worker-2", "backend", "redis", "wipe", "buffer_redis", "postgres")


@pytest.mark.timeout(150)
async def test_each_part_is_killed(stack: Stack, rng: random.Random) -> None:
    """One after another, in random order, at random moments; `redis` keeps nothing, so it comes back empty."""
    async with Load(stack, rng) as load:
        for part in rng.sample(PARTS, len(PARTS)):
            await load.a_moment()
            print("now", part)
            if part == "wipe":
                stack.wipe_queue()
            else:
                await stack.kill(part)
            await load.flows()
        await load.settle()
