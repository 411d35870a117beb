"""A whole TraceHub for one benchmark: durable Postgres, two Valkeys, backend, workers; gone at the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tracehub.runtime.embedded import Postgres, Valkey
from tracehub.runtime.embedded.ports import free_port
from tracehub.storage.postgres.migrate import migrate

START_S = 20


@dataclass(frozen=True, slots=True)
class Stack:
    """Where it runs, and the process ids by role."""

    url: str
    database_url: str
    pids: dict[str, int]

    def memory_mib(self) -> dict[str, float]:
        """Resident memory of each of our processes."""
        return {
            role: round(psutil.Process(pid).memory_info().rss / 2**20, 1) for role, pid in self.pids.items()
        }


@contextmanager
def stack(workers: int = 2) -> Iterator[Stack]:
    """Start, wait until it is well, stop."""
    with ExitStack() as cleanup:
        home = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tracehub-bench-")))
        postgres, queue = Postgres(home / "postgres"), Valkey(home / "queue", durable=False)
        buffers = Valkey(home / "buffers", durable=True)
        for store in (postgres, queue, buffers):
            cleanup.callback(store.stop)
            store.start()
        asyncio.run(migrate(postgres.url))
        port = free_port()
        environment = {
            **os.environ,
            "TRACEHUB_DATABASE_URL": postgres.url,
            "TRACEHUB_REDIS_URL": queue.url,
            "TRACEHUB_BUFFER_REDIS_URL": buffers.url,
            "TRACEHUB_PORT": str(port),
            "TRACEHUB_LOG_LEVEL": "warning",
        }
        pids: dict[str, int] = {}
        roles = ["backend", *(f"worker-{i + 1}" for i in range(workers))]
        for role in roles:
            child = subprocess.Popen(
                [sys.executable, "-m", f"apps.{role.split('-')[0]}"],
                env={**environment, "TRACEHUB_WORKER_ID": role},
            )
            cleanup.callback(_stop, child)
            pids[role] = child.pid
        url = f"http://127.0.0.1:{port}"
        _wait(url)
        yield Stack(url, postgres.url, pids)


@contextmanager
def bare() -> Iterator[str]:
    """The address of a bare.py."""
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", str(port)])
    try:
        _wait(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    child.wait(30)


def _wait(url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the benchmark's server did not come up")
