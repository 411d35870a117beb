"""Store, on every adapter: the worked cases of ingest.md §2 and what follows from its rules."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.making import NOW_MS, entry, request, stream
from tracehub.pipeline.store import Moment, seen, set_aside, store
from tracehub.protocol.limits import MISSING_NAMED_MAX
from tracehub.protocol.messages import Mark, MarkedStream, Outcome
from tracehub.protocol.ranges import first_numbers

MOMENT = Moment(seen(), NOW_MS)


async def put(ledger: Any, *requests: Any, moment: Moment = MOMENT) -> list[Outcome]:
    return (await store(ledger, list(requests), moment)).outcomes


async def one(ledger: Any, numbers: Any, **more: Any) -> Outcome:
    return (await put(ledger, request(numbers, **more)))[0]


WORKED = [
    # numbers, ackTill, missing, replay queued, accepted, duplicates
    ([1, 2], 2, [], 0, 2, 0),
    ([5], 2, [3, 4], 2, 1, 0),
    ([3, 4], 5, [], 0, 2, 0),
    ([1, 2], 5, [], 0, 0, 2),
    ([8, 6, 7], 8, [], 0, 3, 0),
    ([9, 9], 9, [], 0, 1, 1),
]


async def test_worked_cases_of_the_contract(ledger: Any) -> None:
    for numbers, ack_till, missing, queued, accepted, duplicates in WORKED:
        outcome = await one(ledger, numbers)
        assert outcome.ack_till == ack_till, numbers
        assert first_numbers(outcome.missing, 10) == missing
        assert (outcome.replay_queued, outcome.accepted, outcome.duplicates) == (queued, accepted, duplicates)
        assert outcome.conflicts == 0


async def test_names_every_gap_of_a_long_stream(ledger: Any) -> None:
    held = [n for n in range(1, 1097) if n not in (1088, 1092)]
    first = await one(ledger, held)
    second = await one(ledger, [1097, 1099])
    assert (first.ack_till, first.missing, first.replay_queued) == (1087, ((1088, 1088), (1092, 1092)), 2)
    assert second.ack_till == 1087
    assert first_numbers(second.missing, 10) == [1088, 1092, 1098]
    assert (second.missing_count, second.highest_seen) == (3, 1099)
    assert second.replay_queued == 1  # the other two were put there by the first reply


async def test_other_content_is_a_conflict_and_the_stored_one_stands(ledger: Any) -> None:
    await one(ledger, [1, 2])
    outcome = await one(ledger, [], entries=[entry(1), entry(2, "something else"), entry(3)])
    assert (outcome.accepted, outcome.duplicates, outcome.conflicts) == (1, 1, 1)
    stored = await ledger.stored((await ledger.state(stream(), ())).stream_id, ((1, 3),))
    assert [stored[n].message for n in (1, 2, 3)] == ["message 1", "message 2", "message 3"]


@pytest.mark.parametrize(
    ("again", "duplicates"),
    [
        (entry(1, ts_ms=NOW_MS - 5), 1),
        (entry(1), 1),  # without a time of its own only the content counts
        (entry(1, ts_ms=NOW_MS - 6), 0),
        (entry(1, level="warn", ts_ms=NOW_MS - 5), 0),
    ],
)
async def test_time_counts_only_where_the_resend_carries_one(
    ledger: Any, again: Any, duplicates: int
) -> None:
    await one(ledger, [], entries=[entry(1, ts_ms=NOW_MS - 5)])
    outcome = await one(ledger, [], entries=[again])
    assert (outcome.duplicates, outcome.conflicts) == (duplicates, 1 - duplicates)


async def test_first_in_array_order_stands_within_a_batch(ledger: Any) -> None:
    outcome = await one(ledger, [], entries=[entry(1, "first"), entry(1, "second"), entry(1, "first")])
    assert (outcome.accepted, outcome.duplicates, outcome.conflicts) == (1, 1, 1)


async def test_first_in_arrival_order_stands_within_a_group(ledger: Any) -> None:
    outcomes = await put(
        ledger,
        request([1, 3]),
        request([3, 4]),
        request([], entries=[entry(4, "other")]),
        request([1], stream("b")),
    )
    assert [(o.accepted, o.duplicates, o.conflicts) for o in outcomes] == [
        (2, 0, 0), (1, 1, 0), (0, 0, 1), (1, 0, 0),
    ]  # fmt: skip
    assert [o.replay_queued for o in outcomes] == [1, 0, 0, 0]  # only the first carries it
    assert [o.ack_till for o in outcomes] == [1, 1, 1, 1]


async def test_job_that_runs_twice_gives_the_same_receipt(ledger: Any) -> None:
    group = [request([1, 2, 2, 5]), request([2, 3])]
    first = await put(ledger, *group)
    again = await put(ledger, *group)
    assert [(o.accepted, o.duplicates) for o in first] == [(3, 1), (1, 1)]
    assert [(o.accepted, o.duplicates) for o in again] == [(o.accepted, o.duplicates) for o in first]


async def test_start_signs_off_what_nobody_can_supply(ledger: Any) -> None:
    await one(ledger, [3])
    outcome = await one(ledger, [10], start=8)
    assert (outcome.ack_till, first_numbers(outcome.missing, 10)) == (7, [8, 9])
    state = await ledger.state(stream(), ())
    assert state.lost_count == 6


async def test_start_spares_what_is_in_flight(ledger: Any) -> None:
    mark = Mark((MarkedStream(stream(), ((2, 3),)),), 2, 100, NOW_MS)
    outcome = await put(ledger, request([6], start=6), moment=Moment(seen(mark), NOW_MS))
    assert (outcome[0].ack_till, outcome[0].missing_count) == (1, 0)
    assert (await one(ledger, [2, 3])).ack_till == 6


async def test_producer_gives_numbers_up(ledger: Any) -> None:
    outcome = await one(ledger, [4], lost=((1, 2, "buffer full"), (4, 4, "never")))
    assert (outcome.ack_till, first_numbers(outcome.missing, 5)) == (2, [3])
    assert (await one(ledger, [3])).ack_till == 4
    assert (await ledger.state(stream(), ())).lost_count == 2  # 4 came along and is not lost


async def test_loss_alone_is_acknowledged(ledger: Any) -> None:
    assert (await one(ledger, [], lost=((1, 3, "gone"),))).ack_till == 3


async def test_lost_number_that_turns_up_is_stored(ledger: Any) -> None:
    await one(ledger, [5], start=5)
    outcome = await one(ledger, [2])
    assert (outcome.accepted, outcome.ack_till) == (1, 5)
    assert (await ledger.state(stream(), ())).lost_count == 3


async def test_what_is_in_flight_is_neither_missing_nor_acknowledged(ledger: Any) -> None:
    mark = Mark((MarkedStream(stream(), ((1, 4), (9, 9))),), 5, 100, NOW_MS)
    outcome = (await put(ledger, request([6]), moment=Moment(seen(mark), NOW_MS)))[0]
    assert (outcome.ack_till, outcome.highest_seen) == (0, 9)
    assert first_numbers(outcome.missing, 10) == [5, 7, 8]


async def test_poison_is_set_aside_alone(ledger: Any) -> None:
    entries = [entry(n, "poison" if n == 7 else None) for n in range(1, 21)]
    outcomes = await put(ledger, request([1], stream("b")), request([], entries=entries))
    assert [o.ack_till for o in outcomes] == [1, 20]
    state = await ledger.state(stream(), ())
    assert state.lost_count == 1
    stored = await ledger.stored(state.stream_id, ((1, 20),))
    assert sorted(stored) == [n for n in range(1, 21) if n != 7]


async def test_poison_job_that_runs_twice_keeps_one_dead_letter(ledger: Any) -> None:
    poisoned = request([], entries=[entry(1), entry(2, "poison"), entry(3)])
    first = (await put(ledger, poisoned))[0]
    again = (await put(ledger, poisoned))[0]
    assert (first.accepted, again.accepted, again.ack_till) == (3, 3, 3)
    assert (await ledger.state(stream(), ())).lost_count == 1


async def test_everything_can_be_set_aside(ledger: Any) -> None:
    stored = await set_aside(ledger, [request([1, 2])], MOMENT, "nobody knows why")
    assert (stored.dead_letters, stored.outcomes[0].ack_till) == (2, 2)
    assert (await one(ledger, [1, 2])).accepted == 2
    assert (await ledger.state(stream(), ())).lost_count == 0


async def test_too_many_gaps_refuses_only_what_adds_one(ledger: Any) -> None:
    few = Moment(seen(), NOW_MS, gap_ranges_max=3)
    odd = await put(ledger, request([1, 3, 5, 7]), moment=few)
    assert (odd[0].refused, odd[0].missing_count) == ("", 3)
    outcomes = await put(ledger, request([9]), request([2]), request([9]), request([100]), moment=few)
    assert [o.refused for o in outcomes] == ["too_many_gaps", "", "", "too_many_gaps"]
    assert outcomes[1].highest_seen == 9
    assert (await one(ledger, [4, 6, 8])).ack_till == 9


async def test_names_at_most_a_thousand_and_counts_all(ledger: Any) -> None:
    outcome = await one(ledger, range(2, 3002, 2))
    assert (len(outcome.missing), outcome.missing_count) == (MISSING_NAMED_MAX, 1500)


async def test_epochs_are_separate_streams(ledger: Any) -> None:
    await one(ledger, [1, 2], key=stream(epoch=0))
    outcome = await one(ledger, [1], key=stream(epoch=7))
    assert (outcome.accepted, outcome.ack_till) == (1, 1)
    assert await ledger.epochs(stream().tenant_id, "svc") == [0, 7]


async def test_epochs_and_services_are_bounded(ledger: Any) -> None:
    for epoch in range(3):
        assert (await one(ledger, [1], key=stream(epoch=epoch))).refused == ""
    assert (await one(ledger, [1], key=stream(epoch=3))).refused == "overloaded"
    assert (await one(ledger, [2], key=stream(epoch=2))).refused == ""
    for service in ("b", "c"):
        assert (await one(ledger, [1], key=stream(service))).refused == ""
    assert (await one(ledger, [1], key=stream("d"))).refused == "overloaded"


async def test_concurrent_transactions_store_each_number_once(ledger: Any) -> None:
    same = [
        put(ledger, request([1, 2, 3, n], stream(s)), request([n], stream("b")))
        for n in range(4, 24)
        for s in ("a", "b")
    ]
    outcomes = [o for group in await asyncio.gather(*same) for o in group]
    for service in ("a", "b"):
        state = await ledger.state(stream(service), ())
        assert (state.ack_till, state.gaps.count) == (23, 0)
        assert len(await ledger.stored(state.stream_id, ((1, 30),))) == 23
    assert sum(o.accepted for o in outcomes) == 46
    assert sum(o.conflicts for o in outcomes) == 0
