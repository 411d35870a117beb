"""The producer library, with numbers that the caller gives: what shipping a file needs of it.

One sender (the SDK's) sends what is in the buffer; this side appends lines with the numbers that they have in
their file, opens one numbering after another, and waits. Redis being away is waited out, never answered with
an error; `Stalled` says that nobody acknowledged anything for too long.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from redis.exceptions import RedisError

from tracehub.runtime.clock import monotonic_s
from tracehub_sdk import buffer, wire
from tracehub_sdk.buffer import Numbering, RedisBuffer
from tracehub_sdk.keys import Keys
from tracehub_sdk.producer import new_instance
from tracehub_sdk.sender import Sender, wall_ms
from tracehub_sdk.transport import HttpTransport, Transport
from tracehub_sdk.window import Counts, Window

POLL_S = 0.02
RETRY_S = 0.25
LEASE_WAIT_S = buffer.LEASE_MS / 1000 + 1.5
ASK_TIMEOUT_S = 10.0

R = TypeVar("R")


class ShipError(Exception):
    """Shipping cannot go on."""


class BusyError(ShipError):
    """Another process sends for this service: give this file a --service of its own."""


class StalledError(ShipError):
    """Nothing was acknowledged for too long. What was read is in the buffer: run the command again."""


class NumberingChangedError(Exception):
    """The buffer does not stand where we left it: its Redis lost it, or somebody else uses it."""


class StopError(Exception):
    """We were told to stop."""


class Store(Protocol):
    """What is needed of a buffer: RedisBuffer, or MemoryBuffer in tests."""

    def execute(self, command: buffer.Command[R]) -> R:
        """Carry out one command."""

    def read_fields(self) -> dict[str, str]:
        """The whole meta hash."""

    def close(self) -> None:
        """Close the connections."""


class Channel:
    """Buffer and sender of one service. `stopping` is asked while waiting; `patience_s` 0 waits for ever.

    `connect` makes one from addresses. The sender has a store and a transport of its own, for its threads.
    """

    def __init__(
        self,
        service: str,
        stores: tuple[Store, Store],
        transports: tuple[Transport, Transport],
        *,
        patience_s: float = 0.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.service = service
        self._instance = new_instance()
        self._store = stores[0]
        self._asking = transports[0]
        self._standing: tuple[int, int] | None = None  # (epoch, next) as we left the buffer
        self._patience_s = patience_s
        self._stopping = stopping
        self._progress_at = monotonic_s()
        self._progress: tuple[int, int] | None = None
        self._tokens = 0
        self._sender = Sender(
            service,
            stores[1],
            transports[1],
            owner=self._instance,
            window=Window(renumber=False),
            settle=lambda _numbering, _looked: False,
        )

    @classmethod
    def connect(
        cls,
        service: str,
        addresses: tuple[str, str],
        *,
        token: str = "",
        patience_s: float = 0.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Channel:
        """A channel to `addresses` = (endpoint, redis_url). Raises ValueError for a bad name or address."""
        keys = Keys.of(service)
        target = wire.Endpoint.parse(addresses[0], token=token)
        stores = [RedisBuffer.connect(addresses[1], keys, timeout_s=3.0) for _ in range(2)]
        transports = (HttpTransport(target), HttpTransport(target))
        return cls(service, (stores[0], stores[1]), transports, patience_s=patience_s, stopping=stopping)

    # -------------------------------------------------------------- beginning and ending

    def start(self) -> None:
        """Become the sender of the service. Raises BusyError when another process stays it."""
        self._numbering()  # waits until Redis answers
        self._sender.start()
        deadline = monotonic_s() + LEASE_WAIT_S
        while not self._sender.leading:
            if monotonic_s() >= deadline:
                raise BusyError(BusyError.__doc__)
            self._pause()

    def stop(self) -> None:
        """End the sender; what is not acknowledged stays in the buffer."""
        self._sender.stop(timeout_s=2.0)
        self._asking.close()
        self._store.close()

    @property
    def counts(self) -> Counts:
        """What the sender did."""
        return self._sender.window.counts

    @property
    def last_error(self) -> str:
        """What the server or Redis said last when it refused."""
        return self._sender.last_error

    # -------------------------------------------------------------- the buffer

    def fields(self) -> dict[str, str]:
        """The meta hash."""
        return self._patiently(self._store.read_fields)

    def open(self, epoch: int, line: int) -> None:
        """Go on in `epoch` behind `line`, once all that was there before is acknowledged."""
        while self.check() != (epoch, line + 1):
            self.drain()
            if self._patiently(lambda: self._store.execute(buffer.Open(epoch, line + 1))):
                break
        self._standing = (epoch, line + 1)

    def check(self) -> tuple[int, int] | None:
        """(epoch, next) of the buffer. Raises NumberingChangedError when it is not as we left it."""
        now = self._numbering()
        stands = (now.epoch, now.next) if now else None
        if self._standing is not None and stands != self._standing:
            self._standing = None
            raise NumberingChangedError
        return stands

    def append(self, tails: list[str], following: tuple[int, int], fields: dict[str, str]) -> None:
        """Append lines, whose first has the number `following` = (epoch, number)."""
        self._tokens += 1
        command = buffer.Append(
            tails, self._instance, str(self._tokens), wall_ms(), expect=following, fields=fields
        )
        while True:
            answer = self._patiently(lambda: self._store.execute(command))
            if answer.status == "ok":
                self._standing = (following[0], following[1] + len(tails))
                self._sender.wake()
                return
            if answer.status == "unexpected":
                self._standing = None
                raise NumberingChangedError
            self._watch()

    def drain(self) -> None:
        """Wait until everything in the buffer is acknowledged. Raises NumberingChangedError as `check`."""
        while self.check() is not None and (now := self._numbering()) is not None and now.start < now.next:
            self._sender.hurry()
            self._watch()

    def settle(self, timeout_s: float) -> int:
        """Give the sender some last time; answers how many numbers are not acknowledged."""
        deadline = monotonic_s() + timeout_s
        while True:
            try:
                now = self._store.execute(buffer.Load()).numbering
                left = now.next - now.start if now else 0
            except (RedisError, OSError):
                left = 1  # at least we cannot say that there is nothing
            if not left or not self._sender.leading or monotonic_s() >= deadline:
                return left
            self._sender.hurry()
            time.sleep(POLL_S)

    def _numbering(self) -> Numbering | None:
        return self._patiently(lambda: self._store.execute(buffer.Load())).numbering

    def _watch(self) -> None:
        """Pause; raise when there was no progress for longer than our patience."""
        state = (self._sender.window.trimmed, self._sender.window.ack_till)
        if state != self._progress:
            self._progress, self._progress_at = state, monotonic_s()
        elif self._patience_s and monotonic_s() - self._progress_at > self._patience_s:
            raise StalledError(f"{StalledError.__doc__} Last error: {self.last_error or 'no answer'}")
        self._pause()

    # -------------------------------------------------------------- the server

    def known(self, epoch: int) -> int:
        """How many lines of this numbering the server holds without a gap; waits until it answers."""
        began = monotonic_s()
        while True:
            answer = self._asking.exchange(wire.ack(self.service, epoch), ASK_TIMEOUT_S)
            till = ack_till(answer)
            if till is not None:
                return till
            if self._patience_s and monotonic_s() - began > self._patience_s:
                status = f"answered {answer.status}" if answer else "did not answer"
                raise StalledError(f"The server {status} when asked what it knows of {self.service}.")
            self._pause(RETRY_S)

    # -------------------------------------------------------------- waiting

    def _patiently(self, act: Callable[[], R]) -> R:
        """Repeat until Redis answers. Appends are repeated with their token, so none is done twice."""
        began = monotonic_s()
        while True:
            try:
                return act()
            except (RedisError, OSError) as error:
                if self._patience_s and monotonic_s() - began > self._patience_s:
                    raise StalledError(f"The buffer's Redis does not answer: {error}") from error
                self._pause(RETRY_S)

    def _pause(self, seconds: float = POLL_S) -> None:
        if self._stopping():
            raise StopError
        time.sleep(seconds)


def ack_till(answer: wire.Response | None) -> int | None:
    """`ackTill` of an answer to GET /ack; 0 for a numbering it does not know, None for no answer."""
    if answer is None:
        return None
    try:
        document = json.loads(answer.body)
        if answer.status == 200:
            return int(document["ackTill"])
        if answer.status == 404 and document["error"]["code"] in ("unknown_service", "not_found"):
            return 0
    except (ValueError, KeyError, TypeError):
        pass
    return None
