"""Run a command that dies with its parent: `python -I -S guard.py PARENT SIGNAL UID GID COMMAND…`.

A process cannot be told to die with another from outside, and doing it between fork and exec inside a
program that has threads is unsafe. So this file runs as its own short-lived interpreter: it asks the kernel
for SIGNAL on the death of its parent (`PR_SET_PDEATHSIG`), makes sure that the parent was not gone before,
and becomes the command. The process id stays the same.

UID and GID of -1 mean "as I am". They are changed first, because a change of identity clears the request.
The signal is sent when the *thread* that started us ends: start children from a thread that stays.
Outside Linux there is no such request, and the command simply runs. Only the standard library is used, and
no site directory is read, so that it starts in about ten milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
NOT_STARTED = 127  # what a shell answers for a command that cannot be run


def die_with_parent(parent: int, signal_number: int) -> None:
    """Ask for the signal; leave at once when the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(NOT_STARTED)


def become(uid: int, gid: int) -> None:
    """Give up root for good; -1 keeps what we are."""
    if uid < 0:
        return
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main(arguments: list[str]) -> None:
    parent, signal_number, uid, gid = (int(word) for word in arguments[:4])
    command = arguments[4:]
    become(uid, gid)
    die_with_parent(parent, signal_number)
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1:])
