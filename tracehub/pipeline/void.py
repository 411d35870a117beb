"""Numbers that the server gave and nobody stored: closed as void, so that they are neither lost nor missing.

A number is closed when two looks, VOID_AFTER_S apart, found it neither stored nor in flight. A backend gives up
what it could not queue long before that, and a number that comes after all is stored all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tracehub.protocol import ranges as r
from tracehub.protocol.ranges import EMPTY, Ranges
from tracehub.storage.ports import Ledger, Queue, in_flight_by_stream

VOID_AFTER_S: Final = 20


async def close_void(
    ledger: Ledger, queue: Queue, before: Mapping[int, Ranges]
) -> tuple[dict[int, Ranges], int]:
    """One look. `before`: what the last one returned. Returns what to compare with next time, and how many numbers
    were closed."""
    marks = list((await queue.marks()).values())
    flying = {marked.stream for mark in marks for marked in mark.streams if marked.stream.by_server}
    streams = await ledger.resolve(sorted(flying))
    open_now = await ledger.void_streams(in_flight_by_stream(marks, streams))
    closed = 0
    for stream_id, numbers in open_now.items():
        gone = r.intersect(numbers, before.get(stream_id, EMPTY))
        if gone:
            await ledger.void(stream_id, gone)
            closed += r.count(gone)
    return open_now, closed
