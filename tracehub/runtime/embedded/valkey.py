"""A real Valkey as our own child, for the queue (in memory) or for the producers' buffers (on disk).

It listens on loopback only and asks for a random password, which it hears on its standard input, so that no
process list shows it. Password and port are kept in HOME (`password` has mode 600) and are the same in the next
run: producers that live on over a restart find their buffers again. It never evicts: a full server refuses
writes, which is back-pressure. With `durable`, an acknowledged write has been fsynced. It dies with this
process, at once.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from contextlib import nullcontext, suppress
from pathlib import Path

from tracehub.runtime import process
from tracehub.runtime.clock import monotonic_s
from tracehub.runtime.embedded import binaries, ports
from tracehub.runtime.embedded.errors import EmbeddedError, with_log_tail
from tracehub.runtime.embedded.lease import lease

READY_WAIT_S = 60.0  # reading a large append-only file takes its time
READY_POLL_S = 0.005
STOP_STEPS = ((signal.SIGTERM, 10.0),)
LOG_BYTES_MAX = 8 * 1024 * 1024
QUEUE_MEMORY_MAX = "1gb"  # jobs are bounded far below (queue_bytes_max); this guards the machine

COMMON = {
    "bind": ports.LOOPBACK,
    "protected-mode": "yes",
    "daemonize": "no",
    "databases": "16",
    "maxmemory-policy": "noeviction",
    "save": '""',
    "tcp-keepalive": "60",
    "loglevel": "notice",
    "latency-tracking": "no",
}
QUEUE = {**COMMON, "appendonly": "no", "maxmemory": QUEUE_MEMORY_MAX}
BUFFERS = {
    **COMMON,
    "appendonly": "yes",
    "appendfsync": "always",
    "aof-load-truncated": "yes",
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "64mb",
}


class Valkey:
    """One embedded server. `start` again after a crash or a stop; it comes back at the same address."""

    def __init__(self, home: Path, *, durable: bool) -> None:
        self._home = home.absolute()
        self._settings = BUFFERS if durable else QUEUE
        self._password = ""
        self._port = 0
        self._has_served = False
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._child.pid if self._child and self._child.poll() is None else None

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The process, for who wants to wait for its end."""
        if self._child is None:
            raise EmbeddedError("Valkey was not started")
        return self._child

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{ports.LOOPBACK}:{self._port}/0"

    @property
    def log(self) -> Path:
        return self._home / "valkey.log"

    def start(self) -> str:
        """Run it and give its address once it answers; EmbeddedError, with the end of its log, otherwise."""
        if self.pid is not None:
            return self.url
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with lease(self._home / "lock") as handle:
            self._password = self._password or _kept_password(self._home / "password")
            self._port = self._port or ports.kept_port(self._home / "port")
            self._spawn(handle)
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            if not self._has_served:
                self._port = 0  # nobody knows it yet; perhaps it was taken between choice and use
            raise
        self._has_served = True
        return self.url

    def stop(self) -> None:
        """End it in order; returns when it is gone. Stopping twice is fine."""
        if self._child is not None:
            process.stop(self._child, STOP_STEPS)

    def _spawn(self, handle: int) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._child = process.spawn(
                [str(binaries.valkey_server()), "-"],
                env={"LC_ALL": "C"},
                output=log,
                stdin=subprocess.PIPE,
                cwd=self._home,
                pass_fds=[handle],
                death_signal=signal.SIGKILL,
            )
        settings = {**self._settings, "port": str(self._port), "requirepass": self._password}
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        with suppress(BrokenPipeError), self._child.stdin or nullcontext() as pipe:
            if pipe:  # a broken one means that it ended already; waiting for it says why
                pipe.write(lines.encode())

    def _wait_ready(self) -> None:
        deadline = monotonic_s() + READY_WAIT_S
        while monotonic_s() < deadline:
            if self.child.poll() is not None:
                raise with_log_tail("Valkey did not start", self.log)
            if self._answers():
                return
            time.sleep(READY_POLL_S)
        raise with_log_tail(f"Valkey was not ready after {READY_WAIT_S:.0f} s", self.log)

    def _answers(self) -> bool:
        """Whether it knows our password (so it is ours) and has finished loading."""
        try:
            with socket.create_connection((ports.LOOPBACK, self._port), timeout=1) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    if not (part := connection.recv(256)):
                        return False
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


def _kept_password(note: Path) -> str:
    """The password written in `note`, else a new one, which is written there for its owner alone."""
    with suppress(OSError, UnicodeDecodeError):
        if password := note.read_text().strip():
            return password
    password = secrets.token_urlsafe(24)
    unfinished = note.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"{password}\n")
    unfinished.replace(note)
    return password
