"""When groups leave for the queue."""

from __future__ import annotations

import pytest

from tracehub.pipeline.grouping import Decision, Unreceipted, decide

NOW = 100.0
OUT_1 = Unreceipted(NOW - 0.01, 1)
OUT_32 = Unreceipted(NOW - 0.01, 32)
OVERDUE = Unreceipted(NOW - 0.3, 32)


@pytest.mark.parametrize(
    ("waiting", "oldest_s", "out", "send"),
    [
        (1, NOW, [], 1),  # idle: at once
        (62, NOW, [], 31),  # two even jobs
        (1, NOW, [OUT_1], 1),  # as large as the other
        (1, NOW, [OUT_32], 0),  # too small yet
        (1, NOW - 0.004, [OUT_32], 1),  # it has waited long enough
        (32, NOW, [OUT_32], 32),
        (50, NOW, [OUT_1, OUT_32], 0),  # two are out
        (50, NOW - 1, [OUT_32, OUT_32], 0),  # however long it waits
        (5, NOW, [OVERDUE, OVERDUE], 3),  # nobody is held back by what is overdue
    ],
)
def test_decides_what_leaves(waiting: int, oldest_s: float, out: list[Unreceipted], send: int) -> None:
    decision = decide(NOW, waiting, oldest_s, out)
    assert decision.send == send
    assert (decision.wait_s > 0) == (send == 0)


def test_looks_again_when_a_receipt_is_overdue() -> None:
    assert decide(NOW, 1, NOW, [OUT_1, Unreceipted(NOW - 0.2, 1)]) == Decision(0, pytest.approx(0.05))
