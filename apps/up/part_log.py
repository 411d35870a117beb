"""A part's output: all of it to a file of bounded size, its warnings and errors to the terminal as well."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import deque
from pathlib import Path

from apps.up.terminal import Terminal
from tracehub.runtime.logging import printable

FILE_BYTES_MAX = 10 * 1024 * 1024  # and as much again in the file before, `<name>.log.1`
LINE_BYTES_MAX = 64 * 1024
TAIL_LINES = 12
SHOWN_LEVELS = {"warning", "error", "critical"}
SHOWN_PER_MINUTE_MAX = 20  # a part that warns about every request must not flood the terminal
SHOWN_CHARACTERS_MAX = 300


class PartLog:
    """The log file of one part, over all its restarts."""

    def __init__(self, path: Path, terminal: Terminal) -> None:
        self.path = path
        self._terminal = terminal
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._shown: dict[str, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def follow(self, child: subprocess.Popen[bytes]) -> None:
        """Read the child's output until its end, in a thread of its own: a slow disk stops nobody else."""
        threading.Thread(target=self._read, args=(child,), name=self.path.name, daemon=True).start()

    def tail(self) -> list[str]:
        """The last lines, printable."""
        return list(self._tail)

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        output = child.stdout
        if output is None:
            return
        with output:
            while line := output.readline(LINE_BYTES_MAX):
                try:
                    self._keep(line)
                except OSError:
                    continue  # the disk is full: the part must not stop for its log
                self._show(line)

    def _keep(self, line: bytes) -> None:
        self._tail.append(printable(line.decode(errors="replace").rstrip())[:SHOWN_CHARACTERS_MAX])
        if self.path.exists() and self.path.stat().st_size > FILE_BYTES_MAX:
            self.path.replace(self.path.with_suffix(".log.1"))
        with self.path.open("ab") as file:
            file.write(line)

    def _show(self, line: bytes) -> None:
        """Lines of our own logging (JSON) from a warning upwards; the rest is in the file."""
        if not line.startswith(b"{"):
            return
        try:
            event = json.loads(line)
            level, what, at = (
                str(event.pop("level", "")),
                str(event.pop("event", "")),
                str(event.pop("at", "")),
            )
        except (ValueError, AttributeError):
            return
        if level not in SHOWN_LEVELS:
            return
        minute = at[:16]
        count = self._shown.get(minute, 0) + 1
        self._shown = {minute: count}
        if count > SHOWN_PER_MINUTE_MAX:
            return
        rest = " ".join(f"{name}={value}" for name, value in event.items() if name != "exception")
        text = f"{level}: {what} {rest}".rstrip()
        if count == SHOWN_PER_MINUTE_MAX:
            text = f"{level}: many more lines like this in {self.path}"
        self._terminal.event(self.path.stem, text[:SHOWN_CHARACTERS_MAX], level)
