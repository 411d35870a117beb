"""The entry of `tracehub up`: check, take the data folder, run."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apps.up.options import Options, RefusedError, check_listening
from apps.up.supervisor import Supervisor
from apps.up.terminal import Terminal

EXIT_REFUSED = 2


def run_up(options: Options, terminal: Terminal | None = None) -> int:
    """Run until a signal. Exit status: 0 stopped, 1 could not start, 2 refused before any start."""
    terminal = terminal or Terminal()
    try:
        with _data_folder(options.data_dir):
            check_listening(options)
            return asyncio.run(_supervise(options, terminal))
    except RefusedError as refusal:
        terminal.say(str(refusal), style="red")
        return EXIT_REFUSED


async def _supervise(options: Options, terminal: Terminal) -> int:
    return await Supervisor(options, terminal).run()


@contextmanager
def _data_folder(folder: Path) -> Iterator[None]:
    """Have the folder for ourselves, known by a lock that ends with us however we end; Refused otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RefusedError(f"cannot use --data-dir {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(handle, 20, 0).decode(errors="replace").strip()
            raise RefusedError(
                f"`tracehub up` already runs on {folder} (process {other or 'unknown'}).\n"
                "Stop it first, or choose another folder with --data-dir (and another --port)."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
