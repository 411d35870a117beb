"""Level words and OpenTelemetry severity numbers (log-service.md §2). One table for every door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

INFO: Final = 9
ERROR: Final = 17
HIGHEST: Final = 24

# Words in, and the numbers that the row is answered for.
_ROWS: Final = (
    (("trace", "verbose"), 1, 4),
    (("debug",), 5, 8),
    (("info", "information", "informational"), 9, 9),
    (("notice",), 10, 12),
    (("warn", "warning"), 13, 16),
    (("error", "err"), 17, 20),
    (("critical", "crit", "fatal", "panic"), 21, 21),
    (("alert",), 22, 22),
    (("emergency", "emerg"), 23, HIGHEST),
)
NUMBER_OF: Final[dict[str, int]] = {word: first for words, first, _ in _ROWS for word in words}
_ROW_OF: Final = {word: (first, last) for words, first, last in _ROWS for word in words}
# The log-service's own vocabulary.
LOG_SERVICE: Final = {
    "debug": (1, 8),
    "info": (9, 12),
    "warn": (13, 16),
    "error": (17, 20),
    "fatal": (21, HIGHEST),
}
_LOG_SERVICE_WORDS: Final = {
    number: word.upper() for word, (first, last) in LOG_SERVICE.items() for number in range(first, last + 1)
}


# Those of the logstream door.
LOGSTREAM: Final = {
    "debug": (1, 8),
    "info": (9, 9),
    "notice": (10, 12),
    "warning": (13, 16),
    "error": (17, 20),
    "critical": (21, HIGHEST),
}
Vocabulary = Mapping[str, tuple[int, int]]


def range_of(word: str, vocabulary: Vocabulary = LOG_SERVICE) -> tuple[int, int] | None:
    """The numbers that a filter word means at a door, in any case; None for an unknown word."""
    plain = word.strip().lower()
    return vocabulary.get(plain) or _ROW_OF.get(plain)


def matching(words: Iterable[str], vocabulary: Vocabulary = LOG_SERVICE) -> list[tuple[int, int]]:
    """The ranges of those words that are known, ascending."""
    return sorted({found for word in words if (found := range_of(word, vocabulary))})


def number_of(level: str | None, default: int = INFO) -> int:
    """The severity number (1..24) of a level word in any case; unknown or missing words get `default`."""
    if level is None:
        return default
    number = NUMBER_OF.get(level)
    return number if number is not None else NUMBER_OF.get(level.strip().lower(), default)


def word_of(number: int) -> str:
    """The log-service word of a severity number: DEBUG, INFO, WARN, ERROR or FATAL."""
    return _LOG_SERVICE_WORDS.get(number, "FATAL")


def logstream_word_of(number: int) -> str:
    """The word of the logstream door: debug, info, notice, warning, error or critical."""
    return next((word for word, (_, last) in LOGSTREAM.items() if number <= last), "critical")
