"""Logs of our own processes: one line per event, as JSON for machines or as words for a terminal.

    configure(settings.log_level, settings.log_format)
    log = structlog.get_logger("worker")
    log.info("stored", rows=500, services=3, took_ms=12.5)

What holds for every line, also for those of libraries that use the standard `logging`:
1. One event is one line, whatever text it carries: control characters, line breaks among them, are escaped,
   so nobody's log message can forge a line of ours or speak to a terminal.
2. Passwords in addresses and values under secret-sounding names are masked.
3. A value is cut at `VALUE_CHARACTERS_MAX`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import orjson
import structlog

VALUE_CHARACTERS_MAX = 2_000
EXCEPTION_CHARACTERS_MAX = 8_000
MASK = "***"
QUIET = {
    "arq": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "uvicorn.error": logging.WARNING,
    "asyncio": logging.WARNING,
    "opentelemetry": logging.CRITICAL,  # it repeats itself while nobody takes its spans; spans.py says it once
    "urllib3": logging.ERROR,  # the same
}

_ADDRESS_PASSWORD = re.compile(
    r"(?<=://)([^/@\s:]*):[^/\s]+(?=@)"
)  # up to the last @: some forget to encode it
_QUERY_PASSWORD = re.compile(r"(?<=[?&]password=)[^&\s]+", re.IGNORECASE)
_SECRET_NAME = re.compile(r"password|passwd|secret|token|authorization|api_?key|cookie", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Event = MutableMapping[str, Any]


def printable(text: str) -> str:
    """The text with every control, line-breaking and direction-changing character written as an escape."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def masked(text: str) -> str:
    """The text without the passwords of the addresses in it: `redis://user:***@host`, `redis://host?password=***`."""
    return _QUERY_PASSWORD.sub(MASK, _ADDRESS_PASSWORD.sub(rf"\1:{MASK}", text))


def configure(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Set up structlog and `logging` for this process; `form` is auto, json or console.

    ValueError for a level or a form that does not exist.
    """
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None or form not in {"auto", "json", "console"}:
        raise ValueError(f"no such log level or format: {level!r}, {form!r}")
    as_json = form == "json" or (form == "auto" and not stream.isatty())
    render: structlog.typing.Processor = _json_line if as_json else _console_line
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        _harmless,
    ]
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(least, number))


def _harmless(_: object, __: str, event: Event) -> Event:
    """Mask what is secret and escape what is not printable, in names and values."""
    harmless: Event = {}
    for name, value in event.items():
        if name.startswith("_"):  # the formatter's own
            harmless[name] = value
        elif _SECRET_NAME.search(name):
            harmless[name] = MASK
        elif isinstance(value, bool | float | None) or (isinstance(value, int) and abs(value) < 2**63):
            harmless[name] = value
        else:
            limit = EXCEPTION_CHARACTERS_MAX if name == "exception" else VALUE_CHARACTERS_MAX
            text = masked(value if isinstance(value, str) else repr(value))
            harmless[printable(name)] = printable(text if len(text) <= limit else text[: limit - 1] + "…")
    return harmless


def _json_line(_: object, __: str, event: Event) -> str:
    first = {name: event.pop(name, None) for name in ("at", "level", "event")}
    return orjson.dumps({**first, **event}, default=repr).decode()


def _console_line(_: object, __: str, event: Event) -> str:
    at, level, what = (str(event.pop(name, "")) for name in ("at", "level", "event"))
    rest = " ".join(f"{name}={value}" for name, value in event.items())
    return f"{at[11:23]} {level:<8} {what} {rest}".rstrip()
