"""Sign-off of older epochs (ingest.md §5): what can never come any more is said to be lost, with a reason."""

from __future__ import annotations

from tracehub.protocol.messages import StreamKey
from tracehub.protocol.ranges import EMPTY
from tracehub.storage.ports import Ledger, Queue, in_flight_by_stream


async def supersede(ledger: Ledger, queue: Queue) -> list[tuple[StreamKey, int]]:
    """Sign off the gaps of epochs whose successor said where it starts, once nothing of them is in flight.

    Returns the streams and how many numbers each lost. Raises Transient.
    """
    marks = (await queue.marks()).values()
    signed: list[tuple[StreamKey, int]] = []
    for stream, stream_id, highest in await ledger.superseded():
        if in_flight_by_stream(marks, {stream: stream_id}):
            continue
        count, _ = await ledger.sign_off(
            stream_id, ((1, highest),), EMPTY, reason="epoch_superseded", by="server"
        )
        if count:
            signed.append((stream, count))
    return signed
