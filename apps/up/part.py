"""One supervised process: started, watched, started again when it dies, stopped with patience.

A part is in one of these states: starting, up, down (waiting for its next start), stopped. Whoever stops it
has the last word: a start under way is waited for and undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

from tracehub.runtime.clock import monotonic_s

BACKOFF_S = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)  # the n-th death in a row waits so long; the last one stays
STEADY_S = 30.0  # who lived this long has not died "in a row"
ABORT_POLL_S = 0.05
HASTE_S = 0.5  # patience per step once somebody is in a hurry

Steps = Sequence[tuple[signal.Signals, float]]


class Starter(Protocol):
    """Starts the process and returns once it serves, or at once when nobody can tell; blocks, may raise."""

    def __call__(self) -> subprocess.Popen[bytes]: ...


class Observer(Protocol):
    """Hears what becomes of a part, in the event loop."""

    def started(self, part: Part) -> None: ...

    def died(self, part: Part, status: int | None, pause_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How a part is run."""

    name: str
    role: str
    start: Starter
    stop_steps: Steps
    restart_s: float | None = None  # a fixed pause before each restart; None: at once, with back-off
    abort: Callable[[], None] = lambda: None  # makes a start that has not returned yet fail soon


class Part:
    """One process over all its lives."""

    def __init__(self, plan: Plan, executor: Executor, observer: Observer, hurry: asyncio.Event) -> None:
        self.name, self.role = plan.name, plan.role
        self.deaths = 0
        self.last_error = ""
        self._plan, self._executor, self._observer, self._hurry = plan, executor, observer, hurry
        self._child: subprocess.Popen[bytes] | None = None
        self._ended: asyncio.Future[int] | None = None
        self._first_start: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """None while it is down."""
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    async def start(self) -> None:
        """Begin to supervise; returns after the first successful start, raises what that start raised."""
        self._life = asyncio.create_task(self._live(), name=self.name)
        await asyncio.shield(self._first_start)

    async def stop(self) -> None:
        """End it: each step's signal and patience, then SIGKILL. Returns when it is gone; twice is fine."""
        self._stopping.set()
        if self._life is None:
            return
        ending = asyncio.create_task(self._end())
        await self._life
        ending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ending
        if self._first_start.done():
            self._first_start.exception()  # it was told, or nobody asks any more

    async def _live(self) -> None:
        row = 0
        while not self._stopping.is_set():
            begin = monotonic_s()
            status = await self._one_life()
            if self._stopping.is_set():
                return
            row = 0 if monotonic_s() - begin > STEADY_S else row
            pause_s = self._plan.restart_s
            if pause_s is None:
                pause_s = BACKOFF_S[min(row, len(BACKOFF_S) - 1)]
            row += 1
            self.deaths += 1
            self._observer.died(self, status, pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _one_life(self) -> int | None:
        """Start and wait for the end: its status, or None when it could not even be started."""
        loop = asyncio.get_running_loop()
        try:
            child = await loop.run_in_executor(self._executor, self._plan.start)
        except Exception as error:  # whatever a starter raises is a failed start, and is told
            self.last_error = str(error)
            if not self._first_start.done():
                self._first_start.set_exception(error)
                self._stopping.set()  # who could never be started is not tried again behind the caller's back
            return None
        self._child, self._ended = child, loop.create_future()
        threading.Thread(target=_wait, args=(child, loop, self._ended), daemon=True).start()
        if not self._first_start.done():
            self._first_start.set_result(None)
        self._observer.started(self)
        return await self._ended

    async def _end(self) -> None:
        """Signals with patience; runs beside `_live`, which sees the end of the process."""
        while self._ended is None or self._ended.done():
            self._plan.abort()
            await asyncio.sleep(ABORT_POLL_S)
        child, ended = self._child, self._ended
        assert child is not None  # set together with _ended
        for number, patience_s in self._plan.stop_steps:
            child.send_signal(number)
            if await self._gone(ended, patience_s):
                return
        child.kill()

    async def _gone(self, ended: asyncio.Future[int], patience_s: float) -> bool:
        """Wait that long, or `HASTE_S` from the moment somebody is in a hurry."""
        hurry = asyncio.create_task(self._hurry.wait())
        either: set[asyncio.Future[Any]] = {ended, hurry}
        try:
            await asyncio.wait(either, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and hurry.done():
                await asyncio.wait({ended}, timeout=min(HASTE_S, patience_s))
        finally:
            hurry.cancel()
        return ended.done()


def _wait(
    child: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, ended: asyncio.Future[int]
) -> None:
    status = child.wait()
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)  # what it started and left behind; it led its own group

    def tell() -> None:
        if not ended.done():
            ended.set_result(status)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
        loop.call_soon_threadsafe(tell)
