"""`Producer`: number, buffer and deliver the logs of one service, from any number of threads.

The promise (contract ingest.md §1) runs from the return of `append` with a number: the entry is in Redis and
will be sent, by this process or by another of the service, until the server has stored it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from redis.exceptions import RedisError

from tracehub_sdk import buffer
from tracehub_sdk.asender import AsyncSender
from tracehub_sdk.backlog import MEMORY_ENTRIES_MAX, Backlog, Policy, Ticket
from tracehub_sdk.buffer import APPEND_ENTRIES_MAX, BUFFER_ENTRIES_MAX, Numbering, RedisBuffer
from tracehub_sdk.entry import encode
from tracehub_sdk.keys import Keys
from tracehub_sdk.sender import Sender, wall_ms
from tracehub_sdk.transport import HttpTransport, Transport
from tracehub_sdk.window import Window
from tracehub_sdk.wire import Endpoint

log = logging.getLogger("tracehub_sdk")

FULL_RETRY_S = 0.01
FLUSH_POLL_S = 0.01


def key_of_environment() -> str:
    """The key that the environment has for writing; "" is none."""
    return os.environ.get("TRACEHUB_WRITE_KEY", "").strip()


def new_instance() -> str:
    """A name for this producer among those of its service."""
    return f"{os.uname().nodename if hasattr(os, 'uname') else 'host'}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def encode_all(entries: Iterable[Mapping[str, object]], now_ms: int) -> list[str]:
    """Entries as buffer members; what cannot even be looked at becomes a message that says so."""
    tails: list[str] = []
    for entry in entries:
        try:
            tails.append(encode(entry, now_ms))
        except Exception as error:  # strange mappings must not end the program that logs
            tails.append(encode({"message": f"<unloggable {type(entry).__name__}: {error!r}>"}, now_ms))
    return tails


def check_options(policy: str, buffer_entries_max: int, memory_entries_max: int) -> None:
    """Raise ValueError for options that no producer can work with."""
    if policy not in ("block", "drop_oldest"):
        raise ValueError(f"policy must be block or drop_oldest, not {policy!r}")
    if buffer_entries_max < APPEND_ENTRIES_MAX:
        raise ValueError(f"buffer_entries_max must be at least {APPEND_ENTRIES_MAX}")
    if memory_entries_max < 0:
        raise ValueError("memory_entries_max must not be negative")


def collect_stats(service: str, backlog: Backlog, sender: Sender | AsyncSender) -> dict[str, Any]:
    """All counts of a producer."""
    numbering, window = backlog.seen, sender.window
    return {
        "service": service,
        "instance": backlog.instance,
        "sending": sender.leading,
        "epoch": numbering.epoch if numbering else None,
        "next": numbering.next if numbering else None,
        "ack_till": window.ack_till,
        "in_memory": backlog.waiting,
        "in_flight": window.in_flight,
        "last_error": sender.last_error,
        **asdict(backlog.counts),
        **asdict(window.counts),
    }


class Producer:
    """Delivers the logs of `service`. Nothing but wrong constructor arguments ever raises.

    `redis_url`: the Redis that keeps the buffer; its durability is the promise's.
    `endpoint`: the server, `http://host:port`. `token`: the key to show it, else that of TRACEHUB_WRITE_KEY.
    `tenant`: a UUID or a name, for a key that is bound to none; for one that is, the same, so that the server finds
    the buffer when it replays a gap.
    `policy`: what happens at `buffer_entries_max` unacknowledged entries, `block` or `drop_oldest`.
    `memory_entries_max`: how many entries wait in memory while Redis is down.
    `transport`: sends requests instead of HTTP, for tests and simulators.
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
        transport: Transport | None = None,
    ) -> None:
        check_options(policy, buffer_entries_max, memory_entries_max)
        keys = Keys.of(service, tenant)
        target = Endpoint.parse(endpoint, token=token or key_of_environment(), tenant=tenant)
        self.service = service
        self.instance = new_instance()
        # Two connections: an append never waits behind a load of the sender.
        self._store = RedisBuffer.connect(redis_url, keys, timeout_s=redis_timeout_s)
        self._backlog = Backlog(self.instance, policy, buffer_entries_max, memory_entries_max)
        self._state = threading.Lock()  # guards the backlog's state; held for moments only
        self._writing = threading.Lock()  # held while an append is under way in Redis
        self._closed = False
        self._sender = Sender(
            service,
            RedisBuffer.connect(redis_url, keys, timeout_s=max(1.0, redis_timeout_s)),
            transport or HttpTransport(target),
            owner=self.instance,
            window=Window(),
            settle=self._settle,
        )
        self._sender.start()

    # -------------------------------------------------------------- appending

    def log(self, level: str, message: str, **fields: object) -> int | None:
        """Append one entry of these fields; unknown ones become attributes."""
        return self.append({**fields, "level": level, "message": message})

    def append(self, entry: Mapping[str, object], *, timeout_s: float | None = None) -> int | None:
        """Append one entry; see `append_many`."""
        return self.append_many((entry,), timeout_s=timeout_s)[0]

    def append_many(
        self, entries: Sequence[Mapping[str, object]], *, timeout_s: float | None = None
    ) -> list[int | None]:
        """Number and buffer entries (keys: ingest.md §2), 500 in one step; answers their numbers.

        None stands for an entry that has no number yet: it waits in memory because Redis is down, or it was
        dropped. A full buffer with policy `block` blocks, at most `timeout_s` when that is given.
        """
        tails = encode_all(entries, wall_ms())
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        numbers: list[int | None] = []
        for begin in range(0, len(tails), APPEND_ENTRIES_MAX):
            chunk = tails[begin : begin + APPEND_ENTRIES_MAX]
            ticket = self._append(chunk, deadline)
            known = ticket.state == "stored" and ticket.first
            numbers += [ticket.first + i if known else None for i in range(len(chunk))]
        return numbers

    def _append(self, tails: Sequence[str], deadline: float | None) -> Ticket:
        with self._state:
            if self._closed:
                ticket = Ticket(tails, "dropped")
                self._backlog.counts.dropped += len(tails)
                return ticket
            ticket = self._backlog.add(tails)
        while ticket.state == "waiting" and not self._backlog.down:
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or self._closed:
                with self._state:
                    self._backlog.give_up(ticket)
                break
            # Whoever gets the lock writes for all who wait for it.
            if not self._writing.acquire(timeout=-1 if left is None else left):
                continue
            try:
                if ticket.state == "waiting":
                    self._write()
            finally:
                self._writing.release()
            if self._backlog.full and ticket.state == "waiting":
                time.sleep(FULL_RETRY_S if left is None else min(FULL_RETRY_S, max(0.0, left)))
        self._sender.wake()
        return ticket

    def _write(self) -> bool:
        """One command of the backlog; False when there was none or Redis is down. `_writing` is held."""
        with self._state:
            command = self._backlog.take(wall_ms())
        return command is not None and self._execute(command)

    def _execute(self, command: buffer.Append) -> bool:
        try:
            answer = self._store.execute(command)
        except (RedisError, OSError) as error:
            with self._state:
                if not self._backlog.down:
                    log.warning("%s: Redis is out of reach, logs wait in memory: %s", self.service, error)
                self._backlog.failed()
            return False
        with self._state:
            self._backlog.done(command, answer)
        return answer.status == "ok"

    def _settle(self, numbering: Numbering | None, looked: bool) -> bool:
        """In the sender's thread: write what waits in memory; True while something is left.

        `looked`: the buffer was just seen to stand at `numbering`.
        """
        backlog = self._backlog
        gone = looked and numbering is None and backlog.remembered
        if not (backlog.unsettled or gone) or not self._writing.acquire(blocking=False):
            return backlog.unsettled
        try:
            if gone:
                with self._state:
                    command = backlog.touch(wall_ms())
                if command:
                    self._execute(command)
            while backlog.unsettled and self._write():
                pass
            if backlog.losses and not backlog.down:
                self._note_losses()
        finally:
            self._writing.release()
        return backlog.unsettled

    def _note_losses(self) -> None:
        with self._state:
            losses = tuple(self._backlog.losses)
        with contextlib.suppress(RedisError):
            self._store.execute(buffer.NoteLost(losses))
            with self._state:
                self._backlog.losses = self._backlog.losses[len(losses) :]

    # -------------------------------------------------------------- waiting and ending

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until all that was appended before is acknowledged (stored or lost); False when it is not."""
        deadline = time.monotonic() + timeout_s
        target: Numbering | None = None
        while True:
            with contextlib.suppress(RedisError):
                now = None if self._backlog.unsettled else self._store.execute(buffer.Load()).numbering
                if now and (target is None or now.epoch != target.epoch):
                    target = now
                    self._sender.hurry()
                if now and target and now.start >= target.next:
                    return True
                if not self._backlog.unsettled and now is None and self._backlog.seen is None:
                    return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(FLUSH_POLL_S)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Drain, then stop; answers as `flush`. What is left stays in the buffer for the next instance."""
        if self._closed:
            return True
        with self._state:
            self._closed = True
        drained = self.flush(timeout_s)
        self._sender.stop(timeout_s=2.0)
        with contextlib.suppress(RedisError, OSError):
            self._store.close()
        return drained

    def stats(self) -> dict[str, Any]:
        """All counts, for a status line or a metric."""
        return collect_stats(self.service, self._backlog, self._sender)

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
