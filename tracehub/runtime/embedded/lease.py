"""One server per folder, known by a lock that the server itself holds.

The lock (`flock`) is taken here and inherited by the server and everything it forks, then our own handle is
closed. So it is free exactly when the last process of the old server is gone, however that happened, and a
new server can never open files that an old one still writes.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracehub.runtime.clock import monotonic_s
from tracehub.runtime.embedded.errors import EmbeddedError

ORPHAN_PATIENCE_S = 3.0
LEASE_WAIT_S = ORPHAN_PATIENCE_S + 5.0  # orphans are ended early enough to take the folder after them
POLL_S = 0.01


@contextmanager
def lease(lock: Path, orphans: Callable[[], list[int]] = list) -> Iterator[int]:
    """Hold the lock and give its file descriptor, to be passed to the server; EmbeddedError when taken.

    `orphans` names the processes that a killed server left behind; whoever of them still holds the lock
    after `ORPHAN_PATIENCE_S` is killed as well.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(handle, lock, orphans)
        yield handle
    finally:
        os.close(handle)


def _take(handle: int, lock: Path, orphans: Callable[[], list[int]]) -> None:
    begin = monotonic_s()
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = monotonic_s() - begin
            if waited > LEASE_WAIT_S:
                raise EmbeddedError(f"another server is using {lock.parent}") from None
            if waited > ORPHAN_PATIENCE_S:
                for pid in orphans():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_S)
        else:
            return


def working_in(folder: Path) -> list[int]:
    """The processes whose working folder this is, as far as /proc shows them to us; none without /proc."""
    found = []
    with suppress(OSError):
        for name in os.listdir("/proc"):
            with suppress(OSError):
                if name.isdigit() and os.readlink(f"/proc/{name}/cwd") == str(folder):
                    found.append(int(name))
    return found
