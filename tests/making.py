"""Requests, made short, for tests of the pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tracehub.protocol import ranges as r
from tracehub.protocol.ids import id_base
from tracehub.protocol.messages import Entry, Request, StreamKey
from tracehub.protocol.severity import number_of
from tracehub.storage.redis.keys import ZERO_TENANT

NOW_MS = 1_795_000_000_000
_made = itertools.count(1)


def stream(service: str = "svc", epoch: int = 0) -> StreamKey:
    """A stream of the default tenant."""
    return StreamKey(ZERO_TENANT, service, epoch)


def entry(seq: int, message: str | None = None, level: str = "info", ts_ms: int | None = None) -> Entry:
    """An entry whose text says its number."""
    text = f"message {seq}" if message is None else message
    return Entry(seq, ts_ms or NOW_MS, ts_ms is not None, number_of(level), level, text)


def request(
    numbers: Iterable[int],
    key: StreamKey | None = None,
    *,
    start: int | None = None,
    lost: tuple[tuple[int, int, str], ...] = (),
    entries: list[Entry] | None = None,
) -> Request:
    """A batch of these numbers, with ids of its own."""
    made = [entry(n) for n in numbers] if entries is None else entries
    key = key or stream()
    base = id_base(NOW_MS, next(_made).to_bytes(6, "big"))
    ranges = r.of_numbers(e.seq for e in made)
    return Request(key, "ingest", key.numbering, "batch", base, ranges, made, start, lost)
