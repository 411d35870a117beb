"""What a run does and in which order, over a store and an archive in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from tracehub.pipeline.retention import (
    ARCHIVE_FAILURES_MAX,
    DAY_MS,
    LOCKED_TRIES_MAX,
    PAUSE_S,
    Done,
    HourBytes,
    Partition,
    Release,
    Row,
    Run,
    Tools,
    retain,
)
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.retention import Policy
from tracehub.protocol.times import HOUR_MS

NOW = 20_000 * DAY_MS
OLD = Partition("old", NOW - 200 * DAY_MS, NOW - 170 * DAY_MS)
HOT = Partition("hot", NOW - 40 * DAY_MS, NOW + DAY_MS)


def row(n: int, ts_ms: int) -> Row:
    return Row(1, n, ts_ms, n.to_bytes(16, "big"), b"%d" % n)


@dataclass
class World:
    """Rows of tenants, all written long ago, a byte each; and what happened, in order."""

    rows: dict[str, list[Row]]
    kept_by: dict[str, Policy] = field(default_factory=dict)
    empties: list[bool | None] = field(default_factory=list)  # answers, then True
    drops: list[bool | None] = field(default_factory=list)
    broken: set[bytes] = field(default_factory=set)  # lines that cannot be archived
    happened: list[tuple[str, object]] = field(default_factory=list)
    emptied_now: list[Partition] = field(default_factory=list)

    async def run(self, run: Run | None = None, *, size_gb: float = 1.0) -> Done:
        async def pause(seconds: float) -> None:
            self.happened.append(("pause", seconds))

        async def deleted(tenant_id: str) -> None:
            self.happened.append(("told", tenant_id))

        return await retain(self, Tools(self, pause, deleted, 30, size_gb), run or Run("r", None, False, NOW))

    def of(self, what: str) -> list[object]:
        return [value for name, value in self.happened if name == what]

    def within(self, partition: Partition, tenant: str) -> list[Row]:
        return [r for r in self.rows[tenant] if partition.start_ms <= r.ts_ms < partition.end_ms]

    # the archive

    async def write(self, path: str, name: str, lines: Sequence[bytes]) -> None:
        if not self.broken.isdisjoint(lines):
            raise TraceHubError
        self.happened.append(("archived", list(lines)))

    # the store

    async def policies(self) -> Mapping[str, Policy]:
        return self.kept_by

    async def tenants(self, partition: Partition | None = None) -> list[str]:
        return sorted(t for t in self.rows if (self.within(partition, t) if partition else self.rows[t]))

    async def partitions(self) -> list[Partition]:
        return [OLD, HOT]

    async def measure(self, partition: Partition | None = None) -> None:
        pass

    async def shares(self) -> Mapping[str, float]:
        return {t: float(len(rows)) for t, rows in self.rows.items()}

    async def hours(self, tenants: Sequence[str]) -> list[HourBytes]:
        moments = sorted(r.ts_ms // HOUR_MS * HOUR_MS for t in tenants for r in self.rows[t])
        return [HourBytes(h, moments.count(h), float(moments.count(h)), 1.0) for h in sorted(set(moments))]

    async def released_hours(self, releases: Sequence[Release]) -> Mapping[int, int]:
        moments = [
            r.ts_ms // HOUR_MS * HOUR_MS
            for release in releases
            for r in self.rows[release.tenant_id]
            if released(release, r)
        ]
        return {h: moments.count(h) for h in moments}

    async def tip(
        self, releases: Sequence[Release], hour_ms: int, counted: float
    ) -> tuple[int, bytes] | None:
        there = sorted(
            (r.ts_ms, r.id)
            for release in releases
            for r in self.rows[release.tenant_id]
            if hour_ms <= r.ts_ms < hour_ms + HOUR_MS and not released(release, r)
        )
        gone = [place for n, place in enumerate(there) if n < counted]
        return gone[-1] if gone else None

    async def all_released(self, partition: Partition, releases: Sequence[Release]) -> bool:
        by = {r.tenant_id: r for r in releases}
        return all(t in by and released(by[t], r) for t in self.rows for r in self.within(partition, t))

    async def count(self, partition: Partition, releases: Sequence[Release]) -> Mapping[str, int]:
        return {
            r.tenant_id: sum(released(r, one) for one in self.within(partition, r.tenant_id))
            for r in releases
        }

    async def slices(
        self, partition: Partition, release: Release, *, whole: bool
    ) -> AsyncIterator[list[Row]]:
        rows = [r for r in self.within(partition, release.tenant_id) if released(release, r)]
        for at in range(0, len(rows), 2):
            yield [r if whole else replace(r, line=b"") for r in rows[at : at + 2]]

    async def remove(self, run: Run, partition: Partition, rows: Sequence[Row], *, archived: bool) -> bool:
        numbers = [r.seq for r in rows]
        self.happened.append(("removed", (numbers, archived)))
        for tenant, kept in self.rows.items():
            self.rows[tenant] = [r for r in kept if r.seq not in numbers]
        return True

    async def empty(self, run: Run, partition: Partition, *, archived: int) -> bool | None:
        answer = self.empties.pop(0) if self.empties else True
        self.happened.append(("emptied", (partition.name, archived, answer)))
        if answer:
            self.rows = {
                t: [r for r in rows if not partition.start_ms <= r.ts_ms < partition.end_ms]
                for t, rows in self.rows.items()
            }
            self.emptied_now.append(partition)
        return answer

    async def emptied(self, run: Run) -> list[Partition]:
        return self.emptied_now

    async def drop(self, run: Run, partition: Partition) -> bool | None:
        self.happened.append(("drop", partition.name))
        return self.drops.pop(0) if self.drops else True

    async def forget_ids(self, partition: Partition) -> None:
        self.happened.append(("forgot", partition.name))

    async def finish(self, run: Run, done: Done) -> None:
        self.happened.append(("finished", done.error))


def released(release: Release, r: Row) -> bool:
    return r.ts_ms < release.cutoff_ms or (r.ts_ms, r.id) <= (release.until_ms, release.until_id)


def archiving(**more: object) -> Policy:
    return replace(Policy(archive_enabled=True, archive_path="p"), **more)


def old(*numbers: int, day: int = 180) -> list[Row]:
    return [row(n, NOW - day * DAY_MS + n) for n in numbers]


async def test_a_slice_is_archived_before_it_is_removed() -> None:
    world = World({"a": old(1, 2, 3, day=35)}, {"a": archiving()})
    await world.run()
    steps = [(name, value) for name, value in world.happened if name in ("archived", "removed")]
    assert steps == [
        ("archived", [b"1", b"2"]), ("removed", ([1, 2], True)), ("archived", [b"3"]), ("removed", ([3], True)),
    ]  # fmt: skip
    assert world.of("pause") == [PAUSE_S] * 2


@pytest.mark.parametrize("stays", [False, True])
async def test_a_past_partition_goes_when_all_that_is_in_it_is_old_enough(stays: bool) -> None:
    """Though the bound of what is old lies within it."""
    days = 180  # ten days before its end
    rows = [row(n, NOW - 190 * DAY_MS + n) for n in range(3)] + [row(9, NOW - 175 * DAY_MS)] * stays
    world = World({"a": rows}, {"a": Policy(retention_days=days)})
    done = await world.run()
    assert world.of("emptied") == ([] if stays else [("old", 0, True)])
    assert len(world.rows["a"]) == stays
    assert done.error is None


async def test_a_partition_is_archived_before_it_is_emptied() -> None:
    world = World({"a": old(1, 2, 3), "b": old(4)}, {"a": archiving()})
    await world.run()
    names = [
        name for name, _ in world.happened if name in ("archived", "emptied", "drop", "forgot", "removed")
    ]
    assert names == ["archived", "archived", "emptied", "drop", "forgot"]
    assert world.of("emptied") == [("old", 3, True)]
    assert set(world.of("told")) == {"a", "b"}


async def test_a_slice_of_two_days_is_two_archives() -> None:
    world = World({"a": [row(1, NOW - 36 * DAY_MS), row(2, NOW - 35 * DAY_MS)]}, {"a": archiving()})
    await world.run()
    assert world.of("archived") == [[b"1"], [b"2"]]


async def test_rows_that_came_meanwhile_make_it_go_row_by_row() -> None:
    world = World({"a": old(1, 2)}, empties=[False])
    await world.run()
    assert world.of("removed") == [([1, 2], False)]
    assert world.of("drop") == []


async def test_a_locked_partition_is_tried_again_and_then_row_by_row() -> None:
    world = World({"a": old(1)}, empties=[None, None])
    await world.run()
    assert (len(world.of("emptied")), world.of("removed")) == (3, [])
    world = World({"a": old(1)}, empties=[None] * LOCKED_TRIES_MAX)
    await world.run()
    assert (len(world.of("emptied")), world.of("removed")) == (LOCKED_TRIES_MAX, [([1], False)])


async def test_an_empty_partition_that_stays_locked_is_said() -> None:
    world = World({"a": old(1)}, drops=[None] * LOCKED_TRIES_MAX)
    assert (await world.run()).locked == ["old"]


async def test_what_cannot_be_archived_stays_and_the_rest_goes() -> None:
    world = World({"a": old(1, 2, 3, 4)}, {"a": archiving()}, broken={b"1"})
    done = await world.run()
    assert (done.kept_slices, world.of("emptied"), world.of("removed")) == (1, [], [([3, 4], True)])
    assert [r.seq for r in world.rows["a"]] == [1, 2]
    assert world.of("finished") == [done.error]
    assert done.error


async def test_an_archive_that_is_gone_ends_a_tenant_soon() -> None:
    rows = old(*range(1, 41), day=35)
    world = World({"a": rows, "b": old(99, day=35)}, {"a": archiving()}, broken={r.line for r in rows})
    assert (await world.run()).kept_slices == ARCHIVE_FAILURES_MAX
    assert world.of("removed") == [([99], False)]


async def test_policies_beat_the_defaults_in_both_directions() -> None:
    ages = {"default": (29, 31), "longer": (89, 91), "shorter": (6, 8)}
    world = World(
        {t: [row(hash((t, d)) % 2**40, NOW - d * DAY_MS) for d in days] for t, days in ages.items()},
        {"longer": Policy(retention_days=90), "shorter": Policy(retention_days=7)},
    )
    world.rows["longer"][1] = replace(world.rows["longer"][1], ts_ms=OLD.start_ms)
    await world.run()
    left = {t: [(NOW - r.ts_ms) // DAY_MS for r in rows] for t, rows in world.rows.items()}
    assert left == {"default": [29], "longer": [89], "shorter": [6]}


def sized(rows: int) -> float:
    """A limit of so many rows."""
    return rows / 2**30


async def test_those_without_a_policy_share_one_limit() -> None:
    for dry in (False, True):
        world = World(
            {"a": [row(n, NOW - n * DAY_MS // 4) for n in range(100, 0, -2)],
             "b": [row(n, NOW - n * DAY_MS // 4) for n in range(99, 0, -2)],
             "c": [row(1000 + n, NOW - n * DAY_MS // 4) for n in range(100, 0, -1)]},
            {"c": Policy(max_size_gb=sized(30))},
        )  # fmt: skip
        done = await world.run(Run("r", None, dry, NOW), size_gb=sized(40))
        left = sorted(r.seq for t in "ab" for r in world.rows[t])
        assert (len(left), len(world.rows["c"])) == ((100, 100) if dry else (40, 30))
        if dry:
            assert done.deleted == 130
        else:
            assert left == list(range(1, 41))


async def test_age_goes_first_and_counts_for_size() -> None:
    for dry in (False, True):
        rows = [row(n, NOW - 31 * DAY_MS + n) for n in range(50)] + [
            row(100 + n, NOW - DAY_MS + n) for n in range(50)
        ]
        world = World({"a": rows}, {"a": Policy(max_size_gb=sized(45))})
        done = await world.run(Run("r", None, dry, NOW))
        assert done.deleted == (55 if dry else 0)
        if not dry:
            assert [r.seq for r in world.rows["a"]] == [100 + n for n in range(5, 50)]


async def test_a_run_of_one_tenant_touches_no_other() -> None:
    world = World({"a": old(1), "b": old(2)})
    done = await world.run(Run("r", "a", False, NOW), size_gb=sized(0) + 1e-12)
    assert (done.tenants, world.rows["a"], len(world.rows["b"])) == (1, [], 1)
    assert world.of("emptied") == []


async def test_a_dry_run_only_finishes() -> None:
    world = World({"a": old(1, 2), "b": old(3, day=35)}, {"a": archiving()})
    done = await world.run(Run("r", None, True, NOW))
    assert (done.deleted, done.archived, done.dropped) == (3, 2, 1)
    assert world.happened == [("finished", None)]
