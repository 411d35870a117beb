"""The thread that sends for a service, and the threads that wait for its HTTP answers.

It takes the lease, looks at the buffer, feeds the window and does what the window asks for. Commands on the
buffer run in this one thread, so their answers reach the window in order; HTTP runs beside it.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from redis.exceptions import RedisError

from tracehub_sdk import buffer, delivery, messages, wire
from tracehub_sdk.buffer import Numbering
from tracehub_sdk.transport import Transport
from tracehub_sdk.window import Window

log = logging.getLogger("tracehub_sdk")

R = TypeVar("R")


class Store(Protocol):
    """What a sender needs of a buffer: RedisBuffer, or MemoryBuffer in tests."""

    def execute(self, command: buffer.Command[R]) -> R:
        """Carry out one command; RedisError when the buffer is out of reach."""

    def close(self) -> None:
        """Close the connections."""


Inbox = queue.SimpleQueue[messages.Event | None]


def monotonic_ms() -> float:
    """The clock of the window."""
    return time.monotonic() * 1000


def wall_ms() -> int:
    """The clock of epochs and timestamps."""
    return time.time_ns() // 1_000_000


class Sender:
    """See the module. `settle` is called in every turn: the owner writes what waits in memory."""

    def __init__(
        self,
        service: str,
        store: Store,
        transport: Transport,
        *,
        owner: str,
        window: Window,
        settle: Callable[[Numbering | None, bool], bool],
    ) -> None:
        self.window = window
        self.leading = False
        """This instance holds the lease."""
        self.last_error = ""
        self._service = service
        self._store = store
        self._transport = transport
        self._owner = owner
        self._settle = settle
        self._pace = delivery.Pace()
        self._random = random.Random()  # noqa: S311 - jitter
        self._inbox: Inbox = queue.SimpleQueue()
        self._jobs: queue.SimpleQueue[messages.Send | messages.Probe | None] = queue.SimpleQueue()
        self._stopping = False
        self._woken = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads; they are daemons, a host program may end without `stop`."""
        count = self.window.limits.flights_max + 1
        targets = [self._run, *([self._work] * count)]
        self._threads = [threading.Thread(target=t, name="tracehub-sender", daemon=True) for t in targets]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Something was appended."""
        self._pace.dirty = True
        if not self._woken:
            self._woken = True
            self._inbox.put(None)

    def hurry(self) -> None:
        """Somebody waits for what was appended."""
        self._pace.dirty = True
        self._inbox.put(messages.Hurry())

    def stop(self, timeout_s: float) -> None:
        """End the threads and give the lease back. What is in flight stays unacknowledged in the buffer."""
        self._stopping = True
        self._inbox.put(None)
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads[:1]:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._transport.close()

    # -------------------------------------------------------------- the sender's own thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._turn()
            except RedisError as error:
                self._lost_buffer(error)
            except Exception:  # a mistake of ours must neither end the host nor the sending
                log.exception("the sender of %s stumbled and goes on", self._service)
                self._feed(messages.BufferLost())
                time.sleep(1)
        try:
            if self.leading:
                self._store.execute(buffer.Release(self._owner))
        except RedisError:
            pass  # it runs out by itself
        self.leading = False
        self._store.close()

    def _turn(self) -> None:
        now = monotonic_ms()
        if self._pace.lease_due(now):
            self._lease(now)
        unsettled = self._settle(None, False)
        if self.leading and now >= self._pace.peek_at_ms(now):
            self._peek(now)
        event = self._next_event(unsettled)
        if event is not None and self.leading:
            self._feed(event)

    def _next_event(self, unsettled: bool) -> messages.Event | None:
        """Wait for an event, for the window's or the pace's time, whichever comes first."""
        now = monotonic_ms()
        wake = self._pace.leased_ms + delivery.LEASE_RENEW_MS
        if self.leading:
            wake = min(wake, self._pace.peek_at_ms(now), self.window.wake_at_ms() or wake)
        if unsettled:
            wake = min(wake, now + delivery.SETTLE_RETRY_MS)
        try:
            event = self._inbox.get(timeout=max(0.001, (wake - now) / 1000))
        except queue.Empty:
            return messages.Tick()
        if event is None:
            self._woken = False
            return messages.Tick()
        return event

    def _lease(self, now: float) -> None:
        held = self._store.execute(buffer.Lease(self._owner))
        if held and (not self.leading or self._pace.lease_over(now)) and self.window.numbering:
            self._feed(messages.BufferLost())  # somebody else may have sent and trimmed meanwhile
        if held != self.leading:
            log.debug("%s %s for %s", self._owner, "sends" if held else "does not send", self._service)
        self.leading = held
        self._pace.leased_ms = now

    def _peek(self, now: float) -> None:
        self._pace.dirty = False
        read = self._store.execute(buffer.Load())
        self._pace.peeked_ms = now
        if read.numbering != self.window.numbering:
            self._pace.active_ms = now
        self._settle(read.numbering, True)
        self._feed(messages.Peeked(read.numbering, read.lost))

    def _feed(self, event: messages.Event) -> None:
        """Hand an event to the window and carry out what it asks for, to the end."""
        self._notice(event)
        waiting = deque(self.window.handle(event, monotonic_ms(), random.random()))  # noqa: S311
        while waiting:
            action = waiting.popleft()
            if isinstance(action, (messages.Send, messages.Probe)):
                self._jobs.put(action)
                continue
            command = delivery.as_command(action, self._owner, wall_ms())
            if command is None:
                continue
            said = delivery.as_event(action, self._store.execute(command))
            if isinstance(said, messages.BufferLost):
                self._pace.leased_ms = -1e18
            if said is not None:
                waiting.extend(self.window.handle(said, monotonic_ms(), random.random()))  # noqa: S311

    def _notice(self, event: messages.Event) -> None:
        if isinstance(event, messages.Refused):
            self.last_error = event.reason
            log.debug("%s: refused: %s", self._service, event.reason)

    def _lost_buffer(self, error: Exception) -> None:
        self.last_error = f"{type(error).__name__}: {error}"
        log.debug("%s: the buffer is out of reach: %s", self._service, error)
        self._pace.leased_ms = monotonic_ms() - delivery.LEASE_RENEW_MS + delivery.SETTLE_RETRY_MS
        self.leading = False
        self.window.handle(messages.BufferLost(), monotonic_ms(), self._random.random())
        if not self._stopping:
            self._next_event(True)

    # -------------------------------------------------------------- threads for HTTP

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            timeout_s = max(0.0, (job.deadline_ms - monotonic_ms()) / 1000)
            event: messages.Event
            try:
                event = self._ask(job, timeout_s)
            except Exception:  # a wrapped transport may raise anything
                log.exception("the transport of %s stumbled", self._service)
                event = delivery.unanswered(job)
            self._inbox.put(event)

    def _ask(self, job: messages.Send | messages.Probe, timeout_s: float) -> messages.Event:
        if isinstance(job, messages.Send):
            answer = self._transport.exchange(wire.ingest(self._service, job), timeout_s)
            return wire.read_reply(job, answer)
        answer = self._transport.exchange(wire.ack(self._service, job.epoch), timeout_s)
        following = 0
        if job.epoch is None and answer is not None and answer.status == 200:
            try:
                seen = self._store.execute(buffer.Load()).numbering
            except RedisError:
                return messages.ProbeFailed(job.probe_id)
            following = seen.next if seen else 0
        return wire.read_ack(job, answer, following)
