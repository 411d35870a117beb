"""A producer without a library: numbers, posts, and posts again until it is told that a batch is stored."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx

from tests.e2e.told import Stream, Told

ANSWER_S = 15.0
AGAIN_S = 0.05
SENDS_TWICE, HOLDS_BACK = 0.05, 0.1


class RawClient:
    """One service, several requests at a time, so that batches overtake each other.

    Now and then one is sent twice, and one is held back behind the next: an ackTill that covers it is a lie.
    """

    def __init__(self, http: str, service: str, told: Told, rng: random.Random, **shape: float) -> None:
        self.service = service
        self.stream: Stream = (service, 0)
        self.appended = 0
        self.last_answer = ""
        self._told, self._rng = told, rng
        self._batch_entries = int(shape.get("batch_entries", 20))
        self._pause_s = shape.get("pause_s", 0.02)
        self._next = 1
        self._unsent: set[int] = set()  # first numbers of batches that nobody has sent yet
        self._client = httpx.AsyncClient(base_url=http, trust_env=False, timeout=ANSWER_S)
        self._ending = False
        self._tasks = [asyncio.create_task(self._run()) for _ in range(int(shape.get("senders", 2)))]

    async def _run(self) -> None:
        held: range | None = None
        while not self._ending:
            count = self._rng.randint(1, self._batch_entries)
            first, self._next = self._next, self._next + count
            self.appended += count
            numbers = range(first, first + count)
            self._unsent.add(first)
            if held is None and self._rng.random() < HOLDS_BACK:
                held = numbers
                continue
            await self._deliver(numbers)
            if self._rng.random() < SENDS_TWICE:
                await self._deliver(numbers)
            if held is not None:
                await self._deliver(held)
                held = None
            await asyncio.sleep(self._pause_s)
        if held is not None:
            await self._deliver(held)

    async def _deliver(self, numbers: range) -> None:
        body = {
            "service": self.service,
            "batch": [{"seq": n, "level": "info", "message": f"{self.service} says {n}"} for n in numbers],
        }
        while not await self._post(body, numbers):  # noqa: ASYNC110 - a client's back-off
            await asyncio.sleep(AGAIN_S)

    async def _post(self, body: dict[str, Any], numbers: range) -> bool:
        floor = self._told.floor(self.stream)
        self._unsent.discard(numbers.start)
        try:
            answer = await self._client.post("/ingest", json=body)
        except httpx.TransportError as error:
            self.last_answer = repr(error)
            return False
        self.last_answer = f"{answer.status_code} {answer.text[:300]}"
        if answer.status_code not in (200, 202, 429, 503):
            self._told.wrong.append(f"{self.service}: {self.last_answer}")
        if answer.status_code != 200:
            return False
        reply = answer.json()
        if reply["accepted"] + reply["duplicates"] != len(numbers):
            self._told.wrong.append(f"{self.service}: counts do not add up: {reply}")
        if reply["ackTill"] >= (unsent := min(self._unsent, default=self._next)):
            self._told.wrong.append(f"{self.service}: {unsent} was never sent: {self.last_answer}")
        self._told.hear(self.stream, reply, floor=floor, numbers=numbers)
        return True

    def stats(self) -> dict[str, Any]:
        working = sum(not task.done() for task in self._tasks)
        return {"service": self.service, "next": self._next, "working": working, "last": self.last_answer}

    async def finish(self, timeout_s: float) -> bool:
        """Number nothing more; True when all that was numbered is told to be stored."""
        self._ending = True
        _, open_tasks = await asyncio.wait(self._tasks, timeout=timeout_s)
        return not open_tasks

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()
        for result in results:
            if isinstance(result, Exception):
                raise result
