"""`LogClient`: logs over `POST /api/v1/logs/batch`, without a Redis (log-service.md §8).

1. Every entry that was taken is stored once, or counted in `dropped`; its id is made at `log()`, so a repeated request
   stores nothing twice.
2. At most `buffer_entries_max` wait; above that the oldest go.
3. Nothing raises into the program, and nothing but `flush` and `close` makes it wait; both are bounded.
Entries wait in memory: what must survive the process goes through `Producer`.
"""

from __future__ import annotations

import atexit
import logging
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType

from tracehub_sdk.logentry import UNKNOWN_SERVICE, Ids, encode
from tracehub_sdk.transport import HttpTransport, Transport
from tracehub_sdk.wire import Endpoint, Request, Response, retry_after_ms

log = logging.getLogger("tracehub_sdk")

BATCH_ENTRIES = 1_000
BATCH_BYTES = 8 * 1024 * 1024  # the server takes 10 MiB
BUFFER_ENTRIES_MAX = 10_000
LINGER_S = 5.0
EXCHANGE_TIMEOUT_S = 30.0
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.5, 30.0
CLOSE_TIMEOUT_S = 5.0
JOIN_S = 1.0  # the thread ends as soon as its connection is closed
PATH = "/api/v1/logs/batch"
# What a batch is refused with because of an entry, and every other batch might not be.
OF_AN_ENTRY = (400, 413, 422)
AGAIN = (408, 425, 429)
_BAD_ENTRY = re.compile(rb'"field"\s*:\s*"entries\[(\d+)\]')

# The place of an entry among all that were logged, when it was (monotonic seconds), and its JSON.
Waiting = tuple[int, float, bytes]


class LogClient:
    """Collects entries and sends them in the background: 1,000 of them, or what there is after 5 s.

    `service`: for entries that name none. Raises ValueError for a `url` that is none; nothing else ever.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        tenant: str | None = None,
        *,
        service: str = UNKNOWN_SERVICE,
        transport: Transport | None = None,
        batch_entries: int = BATCH_ENTRIES,
        buffer_entries_max: int = BUFFER_ENTRIES_MAX,
        linger_s: float = LINGER_S,
        backoff_min_s: float = BACKOFF_MIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport or HttpTransport(Endpoint.parse(url, token=key, tenant=tenant or ""))
        self._service, self._clock = service, clock
        self._batch_entries, self._buffer_entries_max = batch_entries, buffer_entries_max
        self._linger_s, self._backoff_min_s = linger_s, backoff_min_s
        self._ids = Ids()
        self._changed = threading.Condition()
        # All below is read and written under `_changed`.
        self._waiting: deque[Waiting] = deque()
        self._sending: list[Waiting] = []
        self._logged = 0
        self._dropped = 0
        self._wanted = 0  # a flush wants everything up to this place sent now
        self._closed = False  # nothing more is taken
        self._ended = False  # nothing more is sent
        self._thread: threading.Thread | None = None

    # ---------------------------------------------------------------- the program's side

    @property
    def dropped(self) -> int:
        """How many entries will never be stored: pushed out, refused, or logged behind `close`."""
        with self._changed:
            return self._dropped

    def log(self, level: str, message: str, **fields: object) -> None:
        """One entry. Fields are those of a LogEntry (`service_name`, `trace_id`, `metadata` …); others become
        keys of `metadata`."""
        self.log_batch([{**fields, "level": level, "message": message}])

    def log_batch(self, entries: Iterable[Mapping[str, object]]) -> None:
        """Many entries, each with the keys of a LogEntry."""
        try:
            for entry in entries:
                self._put(entry)
        except Exception:  # an iterable that breaks, or is none, must not end the program that logs
            self._drop(1, "an entry could not be read")

    def _put(self, entry: Mapping[str, object]) -> None:
        now_ms = time.time_ns() // 1_000_000
        try:
            entry_id = entry.get("id") or self._ids.make(now_ms, random.getrandbits(74))
            text = encode(entry, str(entry_id), now_ms, self._service).encode("utf-8", "replace")
        except Exception:  # a mapping that breaks
            self._drop(1, "an entry could not be read")
            return
        with self._changed:
            if self._closed:
                self._dropped += 1
                return
            self._logged += 1
            self._waiting.append((self._logged, self._clock(), text))
            self._bound()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tracehub-logclient", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            if len(self._waiting) in (1, self._batch_entries):  # to begin to wait, and to stop waiting
                self._changed.notify_all()

    def _bound(self) -> None:
        while self._waiting and len(self._waiting) + len(self._sending) > self._buffer_entries_max:
            self._waiting.popleft()
            self._dropped += 1

    def _drop(self, count: int, why: str) -> None:
        with self._changed:
            self._dropped += count
        log.warning("LogClient drops %s: %s", count, why)

    def flush(self, timeout: float) -> bool:
        """Send what was logged before, now. Whether all of it was stored within `timeout` seconds."""
        with self._changed:
            last, dropped = self._logged, self._dropped
            self._wanted = max(self._wanted, last)
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._oldest() > last, max(0.0, timeout))
            return done and self._dropped == dropped

    def _oldest(self) -> int:
        """The place of the first entry whose end is open; behind the last one when there is none."""
        if self._sending:
            return self._sending[0][0]
        return self._waiting[0][0] if self._waiting else self._logged + 1

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Flush, then stop; what is not known to be stored by then is counted as dropped. Twice is fine."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        self.flush(timeout)
        with self._changed:
            self._ended = True
            left = len(self._waiting)
            self._dropped += left
            self._waiting.clear()
            self._changed.notify_all()
            thread = self._thread
        self._transport.close()
        if thread is not None:
            thread.join(JOIN_S)
        if left:
            log.warning("LogClient drops %s: closed before they were stored", left)

    def __enter__(self) -> LogClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---------------------------------------------------------------- the thread's side

    def _run(self) -> None:
        most, failures = self._batch_entries, 0
        while (batch := self._take(most)) is not None:
            response = self._exchange(batch)
            if response is not None and 200 <= response.status < 300:
                most, failures = min(self._batch_entries, most * 2), 0
                self._settle()
            elif response is None or response.status in AGAIN or response.status >= 500:
                failures += 1
                self._settle(back=batch)
                self._pause(failures, response)
            else:
                failures = 0
                most = self._refused(batch, response)

    def _take(self, most: int) -> list[Waiting] | None:
        """The next batch, when it is full, due or wanted; None when there will be none."""
        with self._changed:
            while not self._is_due(most):
                if self._closed and not self._waiting:
                    return None
                due = self._waiting[0][1] + self._linger_s - self._clock() if self._waiting else None
                self._changed.wait(due)
            size = 0
            while self._waiting and len(self._sending) < most:
                size += len(self._waiting[0][2]) + 1
                if size > BATCH_BYTES and self._sending:
                    break
                self._sending.append(self._waiting.popleft())
            return self._sending

    def _is_due(self, most: int) -> bool:
        if not self._waiting:
            return False
        place, since, _ = self._waiting[0]
        wanted = place <= self._wanted or self._closed
        return wanted or len(self._waiting) >= most or self._clock() >= since + self._linger_s

    def _exchange(self, batch: list[Waiting]) -> Response | None:
        body = b'{"entries":[' + b",".join(text for _, _, text in batch) + b"]}"
        try:
            return self._transport.exchange(Request("POST", PATH, body), EXCHANGE_TIMEOUT_S)
        except Exception:  # a transport of the program's own
            log.exception("LogClient cannot send")
            return None

    def _settle(self, *, back: Iterable[Waiting] = (), dropped: int = 0) -> None:
        """The batch has ended; some of it goes back to the front, the rest is stored or dropped."""
        with self._changed:
            again = list(back)
            self._sending = []
            self._dropped += dropped
            if self._ended:
                self._dropped += len(again)
            else:
                self._waiting.extendleft(reversed(again))
                self._bound()
            self._changed.notify_all()

    def _refused(self, batch: list[Waiting], response: Response) -> int:
        """Drop what was refused for good; how many entries the next batch may have."""
        told = f"{response.status} {response.body[:200].decode(errors='replace')}"
        if response.status not in OF_AN_ENTRY or len(batch) == 1:
            log.warning("LogClient drops %s: refused with %s", len(batch), told)
            self._settle(dropped=len(batch))
            return self._batch_entries if response.status not in OF_AN_ENTRY else 1
        named = _BAD_ENTRY.search(response.body)
        if named and (bad := int(named[1])) < len(batch):
            log.warning("LogClient drops 1: refused with %s", told)
            self._settle(back=[*batch[:bad], *batch[bad + 1 :]], dropped=1)
            return len(batch)
        self._settle(back=batch)
        return len(batch) // 2

    def _pause(self, failures: int, response: Response | None) -> None:
        """Wait before the next try: what the server says, at least a growing time; the end of `close` ends it."""
        backoff = min(BACKOFF_MAX_S, self._backoff_min_s * 2 ** min(failures - 1, 10))
        jittered = backoff * random.uniform(0.5, 1.0)  # noqa: S311
        told = retry_after_ms(response) / 1000 if response is not None else 0.0
        with self._changed:
            self._changed.wait_for(lambda: self._ended, max(told, jittered))
