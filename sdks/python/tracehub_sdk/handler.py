"""`TraceHubHandler`: Python's logging, delivered. It holds a program up for 50 ms at most."""

from __future__ import annotations

import logging
import threading
import traceback
from typing import Any

from tracehub_sdk.producer import Producer

BLOCK_S = 0.05
REDIS_TIMEOUT_S = 0.02  # waiting for another thread's append and then for one's own stays within BLOCK_S
CLOSE_TIMEOUT_S = 5.0

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_COLUMNS = ("trace_id", "span_id", "request_id", "user_id", "category", "environment", "release", "host")


def as_entry(record: logging.LogRecord) -> dict[str, Any]:
    """A log record as an entry: `extra=` keys become columns or attributes, an exception attributes."""
    extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
    attrs: dict[str, Any] = {"logger": record.name, "thread": record.threadName}
    entry: dict[str, Any] = {
        "ts": int(record.created * 1000),
        "level": record.levelname.lower(),
        "message": record.getMessage(),
        "source": f"{record.filename}:{record.lineno}",
    }
    for name, value in extra.items():
        (entry if name in _COLUMNS else attrs)[name] = value
    if record.exc_info and record.exc_info[0] is not None:
        kind, error, trace = record.exc_info
        attrs["exception"] = "".join(traceback.format_exception(kind, error, trace))
        attrs["exception_type"] = kind.__name__
    elif record.exc_text:
        attrs["exception"] = record.exc_text
    if record.stack_info:
        attrs["stack"] = record.stack_info
    entry["attrs"] = attrs
    return entry


class TraceHubHandler(logging.Handler):
    """Sends records through a producer. What finds no room within 50 ms is dropped, counted, reported lost.

    Give the arguments of `Producer`, or `producer=` one that you close yourself.
    """

    def __init__(
        self,
        service: str = "",
        redis_url: str = "",
        endpoint: str = "",
        *,
        level: int = logging.NOTSET,
        producer: Producer | None = None,
        **options: Any,
    ) -> None:
        super().__init__(level)
        self._own = producer is None
        options.setdefault("redis_timeout_s", REDIS_TIMEOUT_S)
        self.producer = producer or Producer(service, redis_url, endpoint, **options)
        self._busy = threading.local()

    def handle(self, record: logging.LogRecord) -> Any:
        """Without the handler's lock: `append` is safe for threads, and a lock would add up their waiting."""
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def filter(self, record: logging.LogRecord) -> Any:
        """Our own records, and records made while we deliver one, would go round in circles."""
        own = str(record.name).split(".", 1)[0] in ("tracehub_sdk", "redis")
        return False if own or getattr(self._busy, "now", False) else super().filter(record)

    def emit(self, record: logging.LogRecord) -> None:
        """Append the record; never raises."""
        self._busy.now = True
        try:
            self.producer.append(as_entry(record), timeout_s=BLOCK_S)
        except Exception:  # a record whose arguments do not fit its format, for example
            self.handleError(record)
        finally:
            self._busy.now = False

    def flush(self) -> None:
        """Nothing to do: `append` has put every record into the buffer. `producer.flush()` waits for acks."""

    def close(self) -> None:
        """Drain for a moment, then stop; what is left is in the buffer."""
        if self._own:
            self.producer.close(CLOSE_TIMEOUT_S)
        super().close()
