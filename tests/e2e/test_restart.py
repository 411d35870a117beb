"""Everything ends, in order or at once, and the next start goes on; producers live through it."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.e2e.load import Load
from tests.e2e.stack import Stack
from tests.e2e.viewer import Viewer


@pytest.mark.timeout(120)
async def test_everything_restarts(stack: Stack, rng: random.Random) -> None:
    """SIGTERM, then kill -9 of all processes at one moment, under load; faults only where they are allowed."""
    async with Load(stack, rng) as load:
        await load.a_moment()
        await asyncio.to_thread(stack.stop)
        await asyncio.to_thread(stack.start, TRACEHUB_FAULTS="0")
        await load.flows()
        async with Viewer(stack.http) as viewer:
            answer = await viewer.http.post("/metrics/control", json={"action": "drop_network"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        await load.a_moment()
        await asyncio.to_thread(stack.kill_all)
        await asyncio.to_thread(stack.start)
        await load.flows()
        await load.settle()
