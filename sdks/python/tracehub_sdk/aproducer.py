"""`AsyncProducer`: the producer of producer.py for an event loop. It needs no thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from tracehub_sdk import buffer
from tracehub_sdk.asender import AsyncSender
from tracehub_sdk.backlog import MEMORY_ENTRIES_MAX, Backlog, Policy, Ticket
from tracehub_sdk.buffer import APPEND_ENTRIES_MAX, BUFFER_ENTRIES_MAX, AsyncRedisBuffer, Numbering
from tracehub_sdk.keys import Keys
from tracehub_sdk.producer import (
    FLUSH_POLL_S,
    FULL_RETRY_S,
    check_options,
    collect_stats,
    encode_all,
    key_of_environment,
    new_instance,
)
from tracehub_sdk.sender import wall_ms
from tracehub_sdk.transport import AsyncHttpTransport, AsyncTransport
from tracehub_sdk.window import Window
from tracehub_sdk.wire import Endpoint

log = logging.getLogger("tracehub_sdk")


class AsyncProducer:
    """Delivers the logs of `service`; arguments and promises are those of `Producer`.

    Use it as `async with AsyncProducer(…) as producer:`, or call `start` and `close`.
    """

    def __init__(
        self,
        service: str,
        redis_url: str,
        endpoint: str,
        *,
        token: str = "",
        tenant: str = "",
        policy: Policy = "block",
        buffer_entries_max: int = BUFFER_ENTRIES_MAX,
        memory_entries_max: int = MEMORY_ENTRIES_MAX,
        redis_timeout_s: float = 1.0,
        transport: AsyncTransport | None = None,
    ) -> None:
        check_options(policy, buffer_entries_max, memory_entries_max)
        keys = Keys.of(service, tenant)
        target = Endpoint.parse(endpoint, token=token or key_of_environment(), tenant=tenant)
        self.service = service
        self.instance = new_instance()
        self._store = AsyncRedisBuffer.connect(redis_url, keys, timeout_s=redis_timeout_s)
        self._backlog = Backlog(self.instance, policy, buffer_entries_max, memory_entries_max)
        self._writing = asyncio.Lock()
        self._closed = False
        self._sender = AsyncSender(
            service,
            AsyncRedisBuffer.connect(redis_url, keys, timeout_s=max(1.0, redis_timeout_s)),
            transport or AsyncHttpTransport(target),
            owner=self.instance,
            window=Window(),
            settle=self._settle,
        )

    def start(self) -> None:
        """Begin to send, in the running event loop."""
        self._sender.start()

    async def log(self, level: str, message: str, **fields: object) -> int | None:
        """Append one entry of these fields; unknown ones become attributes."""
        return await self.append({**fields, "level": level, "message": message})

    async def append(self, entry: Mapping[str, object], *, timeout_s: float | None = None) -> int | None:
        """Append one entry; see `append_many`."""
        return (await self.append_many((entry,), timeout_s=timeout_s))[0]

    async def append_many(
        self, entries: Sequence[Mapping[str, object]], *, timeout_s: float | None = None
    ) -> list[int | None]:
        """Number and buffer entries; as `Producer.append_many`.

        Cancelled, entries may be buffered or not; what is not is still written by the sender's task.
        """
        tails = encode_all(entries, wall_ms())
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        numbers: list[int | None] = []
        for begin in range(0, len(tails), APPEND_ENTRIES_MAX):
            chunk = tails[begin : begin + APPEND_ENTRIES_MAX]
            ticket = await self._append(chunk, deadline)
            known = ticket.state == "stored" and ticket.first
            numbers += [ticket.first + i if known else None for i in range(len(chunk))]
        return numbers

    async def _append(self, tails: Sequence[str], deadline: float | None) -> Ticket:
        if self._closed:
            self._backlog.counts.dropped += len(tails)
            return Ticket(tails, "dropped")
        ticket = self._backlog.add(tails)
        while ticket.state == "waiting" and not self._backlog.down:
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or self._closed:
                self._backlog.give_up(ticket)
                break
            async with self._writing:
                if ticket.state == "waiting":
                    await self._write()
            if self._backlog.full and ticket.state == "waiting":
                await asyncio.sleep(FULL_RETRY_S if left is None else min(FULL_RETRY_S, max(0.0, left)))
        self._sender.wake()
        return ticket

    async def _write(self) -> bool:
        """One command of the backlog; False when there was none or Redis is down. `_writing` is held."""
        command = self._backlog.take(wall_ms())
        return command is not None and await self._execute(command)

    async def _execute(self, command: buffer.Append) -> bool:
        try:
            answer = await self._store.execute(command)
        except (RedisError, OSError) as error:
            if not self._backlog.down:
                log.warning("%s: Redis is out of reach, logs wait in memory: %s", self.service, error)
            self._backlog.failed()
            return False
        self._backlog.done(command, answer)
        return answer.status == "ok"

    async def _settle(self, numbering: Numbering | None, looked: bool) -> bool:
        """In the sender's task: write what waits in memory; True while something is left."""
        backlog = self._backlog
        gone = looked and numbering is None and backlog.remembered
        if not (backlog.unsettled or gone) or self._writing.locked():
            return backlog.unsettled
        async with self._writing:
            if gone and (command := backlog.touch(wall_ms())):
                await self._execute(command)
            while backlog.unsettled and await self._write():
                pass
            if backlog.losses and not backlog.down:
                losses = tuple(backlog.losses)
                with contextlib.suppress(RedisError, OSError):
                    await self._store.execute(buffer.NoteLost(losses))
                    backlog.losses = backlog.losses[len(losses) :]
        return backlog.unsettled

    async def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all that was appended before is acknowledged (stored or lost); False when it is not."""
        deadline = time.monotonic() + timeout_s
        target: Numbering | None = None
        while True:
            with contextlib.suppress(RedisError, OSError):
                unsettled = self._backlog.unsettled
                now = None if unsettled else (await self._store.execute(buffer.Load())).numbering
                if now and (target is None or now.epoch != target.epoch):
                    target = now
                    self._sender.hurry()
                if now and target and now.start >= target.next:
                    return True
                if not self._backlog.unsettled and now is None and self._backlog.seen is None:
                    return True
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(FLUSH_POLL_S)

    async def close(self, timeout_s: float = 10.0) -> bool:
        """Drain, then stop; answers as `flush`. What is left stays in the buffer for the next instance."""
        if self._closed:
            return True
        self._closed = True
        try:
            return await self.flush(timeout_s)
        finally:
            await self._sender.stop()
            with contextlib.suppress(RedisError, OSError):
                await self._store.close()

    def stats(self) -> dict[str, Any]:
        """All counts, for a status line or a metric."""
        return collect_stats(self.service, self._backlog, self._sender)

    async def __aenter__(self) -> AsyncProducer:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
