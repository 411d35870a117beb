"""The sender of sender.py for an event loop: the same window, the same pace, tasks instead of threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from tracehub_sdk import buffer, delivery, messages, wire
from tracehub_sdk.buffer import AsyncRedisBuffer, Numbering
from tracehub_sdk.sender import monotonic_ms, wall_ms
from tracehub_sdk.transport import AsyncTransport
from tracehub_sdk.window import Window

log = logging.getLogger("tracehub_sdk")

END_AGAIN_S = 0.5


class AsyncSender:
    """See the module. Cancelling it leaves what is in flight unacknowledged in the buffer."""

    def __init__(
        self,
        service: str,
        store: AsyncRedisBuffer,
        transport: AsyncTransport,
        *,
        owner: str,
        window: Window,
        settle: Callable[[Numbering | None, bool], Awaitable[bool]],
    ) -> None:
        self.window = window
        self.leading = False
        self.last_error = ""
        self._service = service
        self._store = store
        self._transport = transport
        self._owner = owner
        self._settle = settle
        self._pace = delivery.Pace()
        self._random = random.Random()  # noqa: S311 - jitter
        self._inbox: asyncio.Queue[messages.Event | None] = asyncio.Queue()
        self._requests: set[asyncio.Task[None]] = set()
        self._woken = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task in the running loop."""
        self._task = asyncio.create_task(self._run(), name="tracehub-sender")

    def wake(self) -> None:
        """Something was appended."""
        self._pace.dirty = True
        if not self._woken:
            self._woken = True
            self._inbox.put_nowait(None)

    def hurry(self) -> None:
        """Somebody waits for what was appended."""
        self._pace.dirty = True
        self._inbox.put_nowait(messages.Hurry())

    async def stop(self) -> None:
        """End the task and all requests, and give the lease back."""
        if self._task is not None:
            await _end({self._task})
        await _end(set(self._requests))
        if self.leading:
            self.leading = False
            with contextlib.suppress(RedisError):  # else it runs out by itself
                await self._store.execute(buffer.Release(self._owner))
        await self._transport.close()
        await self._store.close()

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except (RedisError, OSError) as error:
                await self._lost_buffer(error)
            except Exception:  # a mistake of ours must neither end the host nor the sending
                log.exception("the sender of %s stumbled and goes on", self._service)
                self.window.handle(messages.BufferLost(), monotonic_ms(), self._random.random())
                await asyncio.sleep(1)

    async def _turn(self) -> None:
        now = monotonic_ms()
        if self._pace.lease_due(now):
            await self._lease(now)
        unsettled = await self._settle(None, False)
        if self.leading and now >= self._pace.peek_at_ms(now):
            await self._peek(now)
        event = await self._next_event(unsettled)
        if self.leading:
            await self._feed(event)

    async def _next_event(self, unsettled: bool) -> messages.Event:
        now = monotonic_ms()
        wake = self._pace.leased_ms + delivery.LEASE_RENEW_MS
        if self.leading:
            wake = min(wake, self._pace.peek_at_ms(now), self.window.wake_at_ms() or wake)
        if unsettled:
            wake = min(wake, now + delivery.SETTLE_RETRY_MS)
        try:
            async with asyncio.timeout(max(0.001, (wake - now) / 1000)):
                event = await self._inbox.get()
        except TimeoutError:
            return messages.Tick()
        if event is None:
            self._woken = False
            return messages.Tick()
        return event

    async def _lease(self, now: float) -> None:
        held = await self._store.execute(buffer.Lease(self._owner))
        if held and (not self.leading or self._pace.lease_over(now)) and self.window.numbering:
            await self._feed(messages.BufferLost())  # somebody else may have sent and trimmed meanwhile
        self.leading = held
        self._pace.leased_ms = now

    async def _peek(self, now: float) -> None:
        self._pace.dirty = False
        read = await self._store.execute(buffer.Load())
        self._pace.peeked_ms = now
        if read.numbering != self.window.numbering:
            self._pace.active_ms = now
        await self._settle(read.numbering, True)
        await self._feed(messages.Peeked(read.numbering, read.lost))

    async def _feed(self, event: messages.Event) -> None:
        """Hand an event to the window and carry out what it asks for, to the end."""
        if isinstance(event, messages.Refused):
            self.last_error = event.reason
        waiting = deque(self.window.handle(event, monotonic_ms(), random.random()))  # noqa: S311
        while waiting:
            action = waiting.popleft()
            if isinstance(action, (messages.Send, messages.Probe)):
                task = asyncio.create_task(self._ask(action))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)
                continue
            command = delivery.as_command(action, self._owner, wall_ms())
            if command is None:
                continue
            said = delivery.as_event(action, await self._store.execute(command))
            if isinstance(said, messages.BufferLost):
                self._pace.leased_ms = -1e18
            if said is not None:
                waiting.extend(self.window.handle(said, monotonic_ms(), random.random()))  # noqa: S311

    async def _lost_buffer(self, error: Exception) -> None:
        self.last_error = f"{type(error).__name__}: {error}"
        self._pace.leased_ms = monotonic_ms() - delivery.LEASE_RENEW_MS + delivery.SETTLE_RETRY_MS
        self.leading = False
        self.window.handle(messages.BufferLost(), monotonic_ms(), self._random.random())
        await self._next_event(True)

    async def _ask(self, job: messages.Send | messages.Probe) -> None:
        event: messages.Event
        try:
            event = await self._answer(job, max(0.0, (job.deadline_ms - monotonic_ms()) / 1000))
        except Exception:  # a wrapped transport may raise anything
            log.exception("the transport of %s stumbled", self._service)
            event = delivery.unanswered(job)
        self._inbox.put_nowait(event)

    async def _answer(self, job: messages.Send | messages.Probe, timeout_s: float) -> messages.Event:
        if isinstance(job, messages.Send):
            reply = await self._transport.exchange(wire.ingest(self._service, job), timeout_s)
            return wire.read_reply(job, reply)
        answer = await self._transport.exchange(wire.ack(self._service, job.epoch), timeout_s)
        following = 0
        if job.epoch is None and answer is not None and answer.status == 200:
            try:
                seen = (await self._store.execute(buffer.Load())).numbering
            except (RedisError, OSError):
                return messages.ProbeFailed(job.probe_id)
            following = seen.next if seen else 0
        return wire.read_ack(job, answer, following)


async def _end(running: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: a library may swallow one cancellation, and we would wait for ever."""
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=END_AGAIN_S)
