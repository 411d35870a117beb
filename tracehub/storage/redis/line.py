"""A connection that the scripts of every job share: each is sent as it comes, and answers come in the same order.

The client's own way has a pool, a timer and a retry around each call, which is 0.2 ms of CPU, and a job of twenty
requests makes five calls. So it connects here, and its parser and packer are used; what does not go well (no
connection, one that breaks, a script the server does not know, an error) is done again its own way. A script may
run twice by that, as it may by the client's retries. Only silence is told at once: waiting again would not help.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Connection, Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError, TimeoutError

SILENCE_S = 5.0


class Line:
    """One per process and Redis; its connection is one of the client's, and is closed together with it."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._wire: _Wire | None = None
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def run(self, script: AsyncScript, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """What the script returns. Raises what the client raises."""
        try:
            if (wire := self._wire) is None or wire.lost:
                wire = await self._connected()
            answer = await wire.ask(("EVALSHA", script.sha, len(keys), *keys, *args))
        except TimeoutError:
            raise
        except (ConnectionError, RedisError):
            return await script(keys, args)
        if isinstance(answer, hiredis.HiredisError):  # an error is a value here
            return await script(keys, args)
        return answer

    async def _connected(self) -> _Wire:
        async with self._connecting:
            if self._wire is None or self._wire.lost:
                pool = self.redis.connection_pool
                if (broken := self._connection) is not None:
                    self._connection = None
                    await broken.disconnect()
                    await pool.release(broken)
                self._connection = await pool.get_connection()
                # The client has no word for it: its connection is connected and authenticated, and ours from here.
                self._wire = _Wire(cast(Any, self._connection)._writer.transport)
            return self._wire


class _Wire(asyncio.Protocol):
    """One connection, from when the client has made it until it breaks."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.lost = False
        self._transport = transport
        self._clients = transport.get_protocol()
        self._reader = hiredis.Reader()
        self._asked: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._clock: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    async def ask(self, command: tuple[Any, ...]) -> Any:
        """The answer, or the error that is one. Raises ConnectionError, TimeoutError."""
        if self.lost or self._transport.is_closing():
            raise ConnectionError
        packed = hiredis.pack_command(command)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._asked.append((self._loop.time() + SILENCE_S, answer))
        if self._clock is None:
            self._clock = self._loop.call_later(SILENCE_S, self._look)
        self._transport.write(packed)
        return await answer

    def data_received(self, data: bytes) -> None:
        """Hand out answers; False stands for no more. What nobody asked for is not Redis, or not in its place."""
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                _, asked = self._asked.popleft()
                if not asked.done():
                    asked.set_result(answer)
        except (hiredis.HiredisError, IndexError):
            self._end(ConnectionError())
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for ever; the client's own protocol hears of it, for it waits for that when it closes. Not why:
        the client would raise that when it closes."""
        self._end(ConnectionError())
        self._clients.connection_lost(None)

    def _look(self) -> None:
        """One clock for all: it looks again when the oldest of those who wait now will have waited long enough."""
        self._clock = None
        if self._asked and self._asked[0][0] <= self._loop.time():
            self._end(TimeoutError("Redis does not answer"))
            self._transport.abort()
        elif self._asked:
            self._clock = self._loop.call_at(self._asked[0][0], self._look)

    def _end(self, error: Exception) -> None:
        self.lost = True
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        while self._asked:
            _, asked = self._asked.popleft()
            if not asked.done():
                asked.set_exception(error)
