"""Every limit of the wire, with its unit last, and the relations between them.

Sources: ingest.md §2–§5 and log-service.md §3. What an operator may change stands in `runtime/settings.py`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

SEQ_MAX: Final = 2**53 - 1
EPOCH_MAX: Final = 2**53 - 1
BODY_BYTES_MAX: Final = 4 * 1024 * 1024
BATCH_ENTRIES_MAX: Final = 5_000
LOST_RANGES_MAX: Final = 1_000
MISSING_NAMED_MAX: Final = 1_000
JSON_DEPTH_MAX: Final = 64

SERVICE_CHARS_MAX: Final = 100
BATCH_ID_CHARS_MAX: Final = 64
REASON_CHARS_MAX: Final = 200
LEVEL_CHARS_MAX: Final = 20
MESSAGE_BYTES_MAX: Final = 1024 * 1024
ATTRS_BYTES_MAX: Final = 1024 * 1024
TEXT_CHARS_MAX: Final = {
    "trace_id": 64,
    "span_id": 32,
    "request_id": 64,
    "user_id": 128,
    "category": 100,
    "source": 255,
    "host": 255,
    "environment": 50,
    "user_agent": 255,
    "release": 100,
}

TS_MIN_MS: Final = 946_684_800_000  # 2000-01-01T00:00:00Z
TS_FUTURE_MS: Final = 24 * 3600 * 1000

REPLAY_RANGE_MAX: Final = 1_000_000
REPLAY_SLICE_ENTRIES: Final = 1_000
REPLAY_ATTEMPTS_MS: Final = (1_000, 5_000, 25_000)
REPLAY_BACKOFF_MAX_MS: Final = 60_000

JOB_BYTES_TARGET: Final = 1024 * 1024
JOB_TRIES_MAX: Final = 5
JOB_FORMAT: Final = 1
JOB_TTL_MS: Final = 30 * 24 * 3600 * 1000
PARTITIONS_PER_JOB_MAX: Final = 50

GROUP_JOBS_MAX: Final = 2  # unreceipted jobs per backend
GROUP_LINGER_MS: Final = 3  # a group that is smaller than the job before it waits for company this long
GROUP_WAIT_MS: Final = 250  # a job whose receipt is overdue by this no longer holds back the next

# A job must be able to carry the largest body that the door takes, else a valid batch could never be stored.
assert JOB_BYTES_TARGET <= BODY_BYTES_MAX
# A reply that names fewer gaps than one batch can make would leave the producer guessing.
assert MISSING_NAMED_MAX <= BATCH_ENTRIES_MAX
# Attempts must lie behind one another, or two of them could be one look at the buffer.
assert all(a < b for a, b in pairwise(REPLAY_ATTEMPTS_MS))
