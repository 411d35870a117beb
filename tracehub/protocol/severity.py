"""Level words and OpenTelemetry severity numbers (log-service.md §2). One table for every door."""

from __future__ import annotations

from typing import Final

INFO: Final = 9
ERROR: Final = 17

_ROWS: Final = (
    (("trace", "verbose"), 1),
    (("debug",), 5),
    (("info", "information", "informational"), 9),
    (("notice",), 10),
    (("warn", "warning"), 13),
    (("error", "err"), 17),
    (("critical", "crit", "fatal", "panic"), 21),
    (("alert",), 22),
    (("emergency", "emerg"), 23),
)
NUMBER_OF: Final[dict[str, int]] = {word: number for words, number in _ROWS for word in words}


def number_of(level: str | None, default: int = INFO) -> int:
    """The severity number (1..24) of a level word in any case; unknown or missing words get `default`."""
    if level is None:
        return default
    number = NUMBER_OF.get(level)
    return number if number is not None else NUMBER_OF.get(level.strip().lower(), default)


def word_of(number: int) -> str:
    """The log-service word of a severity number: DEBUG, INFO, WARN, ERROR or FATAL."""
    if number >= 21:
        return "FATAL"
    if number >= 17:
        return "ERROR"
    if number >= 13:
        return "WARN"
    return "INFO" if number >= 9 else "DEBUG"
