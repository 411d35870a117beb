"""ackTill, gaps and replies against a dumb second model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.making import request
from tracehub.protocol import ranges as r
from tracehub.protocol.ack import Gaps, StreamState, ack_till, missing
from tracehub.protocol.limits import MISSING_NAMED_MAX
from tracehub.protocol.messages import Outcome
from tracehub.protocol.reply import queued_reply, stored_reply

NUMBERS = st.sets(st.integers(1, 40), max_size=30)
QUICK = settings(max_examples=100, deadline=None)


@pytest.mark.parametrize(
    ("received", "lost", "expected"),
    [
        ((), (), 0), (((2, 9),), (), 0), (((1, 1),), (), 1), (((1, 5), (7, 9)), (), 5),
        (((1, 5), (7, 9)), ((6, 6),), 9), ((), ((1, 3),), 3), (((4, 4),), ((1, 3),), 4), ((), ((2, 3),), 0),
    ],
)  # fmt: skip
def test_ack_till_stops_at_the_first_gap(received: r.Ranges, lost: r.Ranges, expected: int) -> None:
    assert ack_till(received, lost) == expected


@QUICK
@given(received=NUMBERS, lost=NUMBERS, more=NUMBERS)
def test_ack_till_never_passes_a_gap_and_never_falls(
    received: set[int], lost: set[int], more: set[int]
) -> None:
    settled = received | lost
    expected = next(n for n in range(1, 100) if n not in settled) - 1
    now = ack_till(r.of_numbers(received), r.of_numbers(lost))
    assert now == expected
    assert ack_till(r.of_numbers(received | more), r.of_numbers(lost - more)) >= now


@QUICK
@given(received=NUMBERS, lost=NUMBERS, flying=NUMBERS, highest=st.integers(0, 50))
def test_missing_is_what_is_nowhere(
    received: set[int], lost: set[int], flying: set[int], highest: int
) -> None:
    expected = set(range(1, highest + 1)) - received - lost - flying
    found = missing(r.of_numbers(received), r.of_numbers(lost), r.of_numbers(flying), highest)
    assert found == r.of_numbers(expected)
    gaps = Gaps.of(found)
    assert (gaps.numbers, gaps.count) == (sorted(expected), len(expected))


def test_a_reply_names_a_thousand_and_counts_all() -> None:
    gaps = Gaps.of(tuple((2 * n, 2 * n) for n in range(1, 1_501)))
    assert (len(gaps.ranges), len(gaps.numbers), gaps.count) == (MISSING_NAMED_MAX, MISSING_NAMED_MAX, 1_500)
    wide = Gaps.of(((1, 10**12),))
    assert (wide.numbers[-1], wide.count) == (MISSING_NAMED_MAX, 10**12)


def test_status_is_partial_iff_something_is_missing() -> None:
    assert StreamState(1, 5, 5).status == "ok"
    assert StreamState(1, 5, 7, Gaps.of(((6, 6),))).status == "partial"


def test_replies_have_the_same_keys() -> None:
    asked = request([1, 2, 5])
    stored = stored_reply(asked, Outcome(3, 0, 0, "", 2, 5, ((3, 4),), 2, 2))
    assert stored == {
        "batchId": "batch", "epoch": 0, "ackTill": 2, "missing": [3, 4], "status": "partial",
        "replay": {"queued": 2}, "missingCount": 2, "missingRanges": ((3, 4),), "highestSeen": 5,
        "accepted": 3, "duplicates": 0, "conflicts": 0, "queued": 0,
    }  # fmt: skip
    for state in (None, StreamState(1, 2, 5, Gaps.of(((3, 4),)))):
        waiting = queued_reply(asked, state)
        assert list(waiting) == list(stored)
        assert (waiting["status"], waiting["queued"], waiting["accepted"]) == ("queued", 3, 0)
