"""What can go wrong with an embedded server, in words for the person at the terminal."""

from __future__ import annotations

from pathlib import Path

LOG_TAIL_LINES = 5


class EmbeddedError(RuntimeError):
    """An embedded server cannot be started."""


def with_log_tail(sentence: str, log: Path) -> EmbeddedError:
    """The sentence, where the log is, and its last lines."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        lines = []
    return EmbeddedError("\n".join([f"{sentence}; its log is {log}", *(f"  {line}" for line in lines)]))
