"""Real SDK producers, one for threads and one for asyncio, whose transports write down every ACK."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import dataclass
from typing import Any

from tests.e2e.told import Told
from tracehub_sdk.aproducer import AsyncProducer
from tracehub_sdk.producer import Producer
from tracehub_sdk.transport import AsyncHttpTransport, HttpTransport
from tracehub_sdk.wire import Endpoint, Request, Response

BURST = 10


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a producer sends, and where it keeps its buffer."""

    http: str
    buffers: str


def _heard(told: Told, request: Request, answer: Response | None, floors: dict[int, int]) -> None:
    if answer is None or request.method != "POST" or answer.status != 200:
        return
    sent = json.loads(request.body)
    numbers = [entry["seq"] for entry in sent.get("batch", ())]
    told.hear(
        (sent["service"], sent["epoch"]),
        json.loads(answer.body),
        floor=floors[sent["epoch"]],
        numbers=numbers,
    )


def _floors(told: Told, request: Request) -> dict[int, int]:
    if request.method != "POST":
        return {}
    sent = json.loads(request.body)
    return {sent["epoch"]: told.floor((sent["service"], sent["epoch"]))}


class _Heard(HttpTransport):
    def __init__(self, endpoint: Endpoint, told: Told) -> None:
        super().__init__(endpoint)
        self._told = told

    def exchange(self, request: Request, timeout_s: float) -> Response | None:
        floors = _floors(self._told, request)
        answer = super().exchange(request, timeout_s)
        _heard(self._told, request, answer, floors)
        return answer


class _AsyncHeard(AsyncHttpTransport):
    def __init__(self, endpoint: Endpoint, told: Told) -> None:
        super().__init__(endpoint)
        self._told = told

    async def exchange(self, request: Request, timeout_s: float) -> Response | None:
        floors = _floors(self._told, request)
        answer = await super().exchange(request, timeout_s)
        _heard(self._told, request, answer, floors)
        return answer


class ThreadClient:
    """A program with threads that logs in bursts."""

    def __init__(self, service: str, stores: Addresses, told: Told, *, pause_s: float = 0.05) -> None:
        self.service = service
        self.appended = 0
        self._pause_s = pause_s
        self._ending = threading.Event()
        transport = _Heard(Endpoint.parse(stores.http), told)
        self._producer = Producer(service, stores.buffers, stores.http, transport=transport)
        self._thread = threading.Thread(target=self._run, name=service)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.wait(self._pause_s):
            first = self.appended + 1
            self._producer.append_many(
                [{"level": "info", "message": f"{self.service} says {first + i}"} for i in range(BURST)]
            )
            self.appended += BURST

    def stats(self) -> dict[str, Any]:
        return self._producer.stats()

    async def finish(self, timeout_s: float) -> bool:
        """Append nothing more; True when all that was appended is acknowledged."""
        self._ending.set()
        await asyncio.to_thread(self._thread.join, timeout_s)
        return await asyncio.to_thread(self._producer.close, timeout_s)

    async def close(self) -> None:
        await self.finish(1)


class TaskClient:
    """A program with an event loop that logs in bursts."""

    def __init__(self, service: str, stores: Addresses, told: Told, *, pause_s: float = 0.05) -> None:
        self.service = service
        self.appended = 0
        self._pause_s = pause_s
        transport = _AsyncHeard(Endpoint.parse(stores.http), told)
        self._producer = AsyncProducer(service, stores.buffers, stores.http, transport=transport)
        self._producer.start()
        self._ending = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._ending:
            first = self.appended + 1
            await self._producer.append_many(
                [{"level": "info", "message": f"{self.service} says {first + i}"} for i in range(BURST)]
            )
            self.appended += BURST
            await asyncio.sleep(self._pause_s)

    def stats(self) -> dict[str, Any]:
        return self._producer.stats()

    async def finish(self, timeout_s: float) -> bool:
        """Append nothing more; True when all that was appended is acknowledged."""
        self._ending = True
        await asyncio.wait({self._task}, timeout=timeout_s)
        self._task.cancel()
        return await self._producer.close(timeout_s)

    async def close(self) -> None:
        await self.finish(1)
