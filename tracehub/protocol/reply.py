"""The reply to `POST /ingest` (ingest.md §2)."""

from __future__ import annotations

from typing import Any

from tracehub.protocol.ack import StreamState
from tracehub.protocol.limits import MISSING_NAMED_MAX
from tracehub.protocol.messages import Outcome, Request
from tracehub.protocol.ranges import first_numbers


def stored_reply(request: Request, outcome: Outcome) -> dict[str, Any]:
    """The batch is committed: status 200."""
    return {
        "batchId": request.batch_id,
        "epoch": request.stream.epoch,
        "ackTill": outcome.ack_till,
        "missing": first_numbers(outcome.missing, MISSING_NAMED_MAX),
        "status": "partial" if outcome.missing_count else "ok",
        "replay": {"queued": outcome.replay_queued},
        "missingCount": outcome.missing_count,
        "missingRanges": outcome.missing,
        "highestSeen": outcome.highest_seen,
        "accepted": outcome.accepted,
        "duplicates": outcome.duplicates,
        "conflicts": outcome.conflicts,
        "queued": 0,
    }


def queued_reply(request: Request, state: StreamState | None) -> dict[str, Any]:
    """The job still waits or runs: status 202. Nothing is said of the batch; `ackTill` is true all the same.

    `state` is None where the stream is unknown, or the ledger cannot be asked by one who does not wait for it:
    0 is true of every stream.
    """
    gaps = state.gaps if state else None
    return {
        "batchId": request.batch_id,
        "epoch": request.stream.epoch,
        "ackTill": state.ack_till if state else 0,
        "missing": gaps.numbers if gaps else [],
        "status": "queued",
        "replay": {"queued": 0},
        "missingCount": gaps.count if gaps else 0,
        "missingRanges": gaps.ranges if gaps else [],
        "highestSeen": state.highest_seen if state else 0,
        "accepted": 0,
        "duplicates": 0,
        "conflicts": 0,
        "queued": len(request.entries),
    }
