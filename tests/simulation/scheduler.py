"""Coroutines stepped by hand, in an order that a seed decides: no event loop, no time but the world's own."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any


class _Pause:
    def __await__(self) -> Generator[None, None, None]:
        yield


@dataclass(eq=False)
class Process:
    """Something that runs until its next pause when it is stepped, and may be ended there."""

    name: str
    run: Coroutine[Any, Any, Any]

    def step(self) -> bool:
        """Run to the next pause; False when it has ended."""
        try:
            self.run.send(None)
        except StopIteration:
            return False
        return True

    def crash(self) -> None:
        """End it at the pause where it stands: nothing after it happens."""
        self.run.close()


class Scheduler:
    """All processes of a world."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.processes: list[Process] = []

    async def pause(self) -> None:
        """A place where another process may run, or this one be ended."""
        await _Pause()

    def start(self, name: str, run: Coroutine[Any, Any, Any]) -> Process:
        """Add a process; it runs when it is stepped."""
        process = Process(name, run)
        self.processes.append(process)
        return process

    def step(self) -> None:
        """One step of one process."""
        if not self.processes:
            return
        process = self._rng.choice(self.processes)
        if not process.step() and process in self.processes:
            self.processes.remove(process)

    def crash(self, process: Process) -> None:
        """End a process where it stands."""
        if process in self.processes:
            self.processes.remove(process)
        process.crash()

    def named(self, prefix: str) -> list[Process]:
        """Processes whose name begins so."""
        return [p for p in self.processes if p.name.startswith(prefix)]

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.crash()
        self.processes.clear()
