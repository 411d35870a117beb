"""Producers under load against one stack, and the audit of what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import random
from types import TracebackType

from tests.e2e.audit import audit
from tests.e2e.raw_client import RawClient
from tests.e2e.sdk_clients import Addresses, TaskClient, ThreadClient
from tests.e2e.stack import Stack
from tests.e2e.told import Told
from tests.eventually import eventually

SETTLE_S = 30.0


class Load:
    """Use as `async with Load(stack, rng) as load:`; call `settle` before the end, which proves everything."""

    def __init__(self, stack: Stack, rng: random.Random, *, raw: int = 3, **shape: float) -> None:
        self.told = Told()
        self._stack, self._rng, self._raw, self._shape = stack, rng, raw, shape
        self._clients: list[RawClient | ThreadClient | TaskClient] = []

    async def __aenter__(self) -> Load:
        stack, told = self._stack, self.told
        for index in range(self._raw):
            self._clients.append(RawClient(stack.http, f"raw-{index}", told, self._rng, **self._shape))
        pause_s = self._shape.get("sdk_pause_s", 0.05)
        stores = Addresses(stack.http, stack.buffer_redis_url)
        self._clients.append(ThreadClient("sdk-thread", stores, told, pause_s=pause_s))
        self._clients.append(TaskClient("sdk-task", stores, told, pause_s=pause_s))
        await self.flows()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))

    def marks(self) -> dict[str, int]:
        """How far each service is acknowledged, by what its clients were told."""
        marks = {client.service: 0 for client in self._clients}
        for (service, _), till in list(self.told.ack_till.items()):
            if service in marks:
                marks[service] = max(marks[service], till)
        return marks

    async def flows(self, timeout: float = 60) -> None:
        """Wait until every service is acknowledged further than now."""
        before = self.marks()

        def all_further() -> bool:
            now = self.marks()
            stuck = {name: till for name, till in now.items() if till <= before[name]}
            assert stuck == {}, [client.stats() for client in self._clients if client.service in stuck]
            return True

        await eventually(all_further, timeout)

    async def a_moment(self, most: int = 60) -> None:
        """A random moment under load: so many more ACKs."""
        until = self.told.batches + self._rng.randint(1, most)
        await eventually(lambda: self.told.batches >= until, 60)

    async def settle(self) -> None:
        """All producers end and are told that everything is stored; then the stores are asked whether it is."""
        done = [False] * len(self._clients)
        with contextlib.suppress(TimeoutError):  # a client that hangs is one that has not settled
            async with asyncio.timeout(3 * SETTLE_S):
                done = await asyncio.gather(*(client.finish(SETTLE_S) for client in self._clients))
        unsettled = [c.service for c, settled in zip(self._clients, done, strict=True) if not settled]
        if unsettled:
            print(
                "not settled:",
                unsettled,
                self.marks(),
                *(client.stats() for client in self._clients),
                sep="\n  ",
            )
        assert unsettled == []
        appended = {client.service: client.appended for client in self._clients}
        await audit(self._stack, self.told, appended)
