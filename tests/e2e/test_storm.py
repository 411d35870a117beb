"""As much load as the machine takes, and harm at random moments for a while."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.e2e.load import Load
from tests.e2e.stack import Stack
from tests.eventually import eventually
from tracehub.runtime.clock import monotonic_s

STORM_S = 20.0
HEAVY = {"pause_s": 0.0, "batch_entries": 400, "senders": 3, "sdk_pause_s": 0.01}
HARMS = ("worker-1", "worker-2", "stop", "backend", "redis", "wipe", "buffer_redis", "postgres")


@pytest.mark.timeout(240)
async def test_random_kills_under_heavy_load(stack: Stack, rng: random.Random) -> None:
    """kill -9, stopped workers and a forgetful queue, several at a time: nothing lost, nothing twice."""
    async with Load(stack, rng, **HEAVY) as load:
        until = monotonic_s() + STORM_S
        stopped: list[int] = []
        while monotonic_s() < until:
            harm = rng.choice(HARMS)
            print(f"{until - monotonic_s():5.1f} s left: {harm}")
            if harm == "stop":
                wake(stopped)
                stopped.append(await stack.is_back(rng.choice(("worker-1", "worker-2"))))
                os.kill(stopped[-1], signal.SIGSTOP)
            elif harm == "wipe":
                stack.wipe_queue()
            else:
                await stack.kill(harm)
            await load.a_moment(300)
        wake(stopped)
        await eventually(lambda: all(stack.pid(part) for part in HARMS if part not in ("stop", "wipe")), 30)
        await load.flows()
        await load.settle()
        print(f"{sum(map(len, load.told.stored.values()))} entries were told to be stored")


def wake(stopped: list[int]) -> None:
    """Whoever stands still and was not killed meanwhile goes on."""
    while stopped:
        try:
            os.kill(stopped.pop(), signal.SIGCONT)
        except ProcessLookupError:
            continue
