"""Child processes that die with us, and how to end one politely.

`spawn` is the only way this project starts a process. The child is a direct child, in a process group of its
own (so Ctrl-C on the terminal reaches only us, and we stop our parts in order), and it receives
`death_signal` when we die, however we die. Call it from a thread that lives as long as the child may.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a child runs as: a user and group (-1: as we are), and words put before its command."""

    uid: int = -1
    gid: int = -1
    prefix: tuple[str, ...] = ()


OURSELVES = Identity()


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: IO[bytes] | int = subprocess.DEVNULL,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    death_signal: signal.Signals = signal.SIGKILL,
    identity: Identity = OURSELVES,
) -> subprocess.Popen[bytes]:
    """Start a child whose output (both streams) goes to `output`; raises OSError when that is impossible."""
    guard = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(int(death_signal))]
    return subprocess.Popen(  # noqa: S603 - the words are ours, and no shell reads them
        [*guard, str(identity.uid), str(identity.gid), *identity.prefix, *command],
        env=dict(env),
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        pass_fds=pass_fds,
        start_new_session=True,
    )


def stop(child: subprocess.Popen[bytes], steps: Sequence[tuple[signal.Signals, float]]) -> int:
    """Send each signal and wait its seconds, until the child is gone; SIGKILL at last. Its exit status.

    Stopping a child that has ended already is fine and returns the same status.
    """
    for number, patience_s in steps:
        if child.poll() is not None:
            break
        child.send_signal(number)
        try:
            child.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    if child.poll() is None:
        child.kill()
    return child.wait()
