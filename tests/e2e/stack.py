"""One `tracehub up` under test: where its parts are, how to kill them, what they logged, that nothing stays."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.eventually import eventually, eventually_sync
from tracehub.runtime.embedded.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S = 60.0, 60.0
TAIL_LINES = 25


class Stack:
    """A real backend, two workers, Postgres and two Valkeys, on one data folder and one port over all restarts."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.port = free_port()
        self.http = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._outputs: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None

    # Running

    def start(self, *, simulators: int = 0, **settings: str) -> None:
        """Start `up` and wait until it says that everything runs."""
        output = self._folder / f"up-{len(self._outputs)}.txt"
        self._outputs.append(output)
        command = [sys.executable, "-m", "apps.cli", "up", "--data-dir", str(self.data_dir)]
        command += ["--sim", str(simulators)]
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**self.environment(), **settings},
            )

        def is_ready() -> bool:
            assert self._process is not None
            if (status := self._process.poll()) is not None:
                raise RuntimeError(f"`up` ended with {status}: {output.read_text()}")
            return "is running at" in output.read_text()

        eventually_sync(is_ready, START_S)

    def stop(self) -> None:
        """SIGTERM; everything must end in order and nothing stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(STOP_S)
        self._process = None
        assert status == 0
        assert [process.name() for process in self.processes()] == []

    def kill_all(self) -> None:
        """kill -9 every process at one moment, as if the machine had lost them."""
        assert self._process is not None
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait(10)
        self._process = None
        eventually_sync(lambda: not self.processes(), 10)

    def end(self) -> None:
        """Whatever the test left running ends; used after each test, whether it succeeded or not."""
        if self._process is not None:
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
            self.stop()

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to this data folder, also orphans: by its working folder or environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                mine = process.environ().get("TRACEHUB_DATA_DIR") == str(self.data_dir)
                if mine or process.cwd().startswith(str(self.data_dir)):
                    found.append(process)
        return found

    @staticmethod
    def environment() -> dict[str, str]:
        paths = [str(ROOT), str(ROOT / "sdks" / "python"), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    # Looking

    def state(self) -> dict[str, Any]:
        """run.json as it is now."""
        document: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        return document

    @property
    def database_url(self) -> str:
        return str(self.state()["database_url"])

    @property
    def buffer_redis_url(self) -> str:
        return str(self.state()["buffer_redis_url"])

    def queue(self) -> redis.Redis:
        """A client of the queue's Valkey; close it."""
        return redis.Redis.from_url(self.state()["redis_url"], socket_timeout=5)

    def worker(self, name: str) -> int | None:
        """The process that runs under this name now; None while it is down."""
        for pid in self.state()["pids"]["workers"]:
            with contextlib.suppress(psutil.Error):
                if psutil.Process(pid).environ().get("TRACEHUB_WORKER_ID") == name:
                    return int(pid)
        return None

    def pid(self, part: str) -> int | None:
        """The process of a part (a role of run.json, or a worker's name); None while it is down."""
        if part.startswith("worker-"):
            return self.worker(part)
        pid = self.state()["pids"][part]
        return None if pid is None else int(pid)

    def tails(self) -> str:
        """The end of every log, for whoever reads a failure."""
        files = [*self._outputs, *sorted((self.data_dir / "logs").glob("*.log"))]
        parts = []
        for file in files:
            lines = file.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            parts.append("\n".join([f"--- {file.name}", *lines]))
        return "\n".join(parts)

    # Harming

    async def kill(self, part: str) -> int:
        """kill -9 a part as soon as it runs; which process that was."""
        pid = await eventually(lambda: self.pid(part), 60)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: self.pid(part) != pid, 10)
        return int(pid)

    async def is_back(self, part: str, timeout: float = 60) -> int:
        """Wait until a part runs (again); its process."""
        return int(await eventually(lambda: self.pid(part), timeout))

    def wipe_queue(self) -> None:
        """The queue's Valkey forgets everything."""
        with self.queue() as client:
            client.flushall()


def verify(stack: Stack) -> tuple[int, Mapping[str, Any]]:
    """`tracehub verify --json`: its exit status and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "apps.cli", "verify", "--json"],
        env={**stack.environment(), "TRACEHUB_DATA_DIR": str(stack.data_dir)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        return done.returncode, {"stderr": done.stderr.decode(errors="replace")}
