"""What `up` says on the terminal: few lines, calm, and never raw text of others."""

from __future__ import annotations

import sys
import threading
from datetime import datetime
from typing import TextIO

from rich.console import Console
from rich.text import Text

from tracehub.runtime.clock import now_ms
from tracehub.runtime.logging import printable

STYLES = {"info": "", "warning": "yellow", "error": "red", "critical": "bold red"}


class Terminal:
    """Prints whole lines, from any thread; a terminal that went away is no reason to stop."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._lock = threading.Lock()

    def say(self, line: str = "", *, style: str = "") -> None:
        """One line of ours."""
        with self._lock:
            try:
                self._console.print(Text(line, style=style))
            except (OSError, ValueError):
                self._console.quiet = True

    def event(self, who: str, what: str, level: str = "info") -> None:
        """Something that happened: the time of day, who, and what."""
        now = datetime.fromtimestamp(now_ms() / 1000).astimezone().strftime("%H:%M:%S")
        self.say(f"{now}  {who:<12} {printable(what)}", style=STYLES.get(level, ""))
