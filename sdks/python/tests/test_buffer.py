"""The buffer's commands: the same suite on a real Valkey and in memory, then both against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sdk_valkey import Valkey

from tracehub_sdk.buffer import (
    Append,
    ForgetLost,
    Lease,
    Load,
    Lost,
    NoteLost,
    Numbering,
    Open,
    RedisBuffer,
    Reject,
    Release,
    Renumber,
    Trim,
)
from tracehub_sdk.keys import Keys
from tracehub_sdk.memory import MemoryBuffer, State

NOW = 1_700_000_000_000


class RedisUnderTest(RedisBuffer):
    def wipe(self) -> None:
        self._client.flushall()

    def drop_meta(self) -> None:
        self._client.delete(self.keys.meta)


class MemoryUnderTest(MemoryBuffer):
    def wipe(self) -> None:
        self.state = State()

    def drop_meta(self) -> None:
        self.state.meta.clear()


@pytest.fixture(params=["redis", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryUnderTest()
        return
    valkey: Valkey = request.getfixturevalue("valkey")
    buffer = RedisUnderTest.connect(valkey.url, Keys.of("shop"))
    yield buffer
    buffer.close()


def tails(*names: str) -> tuple[str, ...]:
    return tuple(f'"ts":{NOW},"level":"info","message":"{name}"}}' for name in names)


def append(*names: str, token: str = "", **rest: Any) -> Append:
    append.count += 1  # type: ignore[attr-defined]
    return Append(tails(*names), rest.pop("instance", "a"), token or str(append.count), NOW, **rest)  # type: ignore[attr-defined]


append.count = 0  # type: ignore[attr-defined]


def texts(store: Any) -> list[tuple[int, str]]:
    loaded = store.execute(Load(1, 2**53, 500)).entries
    return [(seq, member.split('"message":"')[1][:-2]) for seq, member in loaded]


def test_first_append_makes_an_epoch(store: Any) -> None:
    """An empty buffer gets the epoch of now, and members begin with epoch and seq."""
    answer = store.execute(append("x", "y"))
    assert (answer.status, answer.first, answer.numbering) == ("ok", 1, Numbering(NOW, 3, 1))
    assert answer.broke is None
    entries = store.execute(Load(1, 2**53, 500)).entries
    assert entries[0][1].startswith(f'{{"epoch":{NOW},"seq":1,"ts":')


def test_repeated_append_is_done_once(store: Any) -> None:
    """An append whose answer was lost may be repeated with its token."""
    first = store.execute(append("x", token="t1"))
    again = store.execute(append("x", token="t1"))
    assert (first.first, again.first) == (1, 1)
    assert texts(store) == [(1, "x")]


def test_instances_share_one_numbering(store: Any) -> None:
    """Two instances get different numbers."""
    assert store.execute(append("x", instance="a")).first == 1
    assert store.execute(append("y", instance="b")).first == 2


def test_trim_forgets_and_raises_start(store: Any) -> None:
    """The holder of the lease trims; numbering goes on after the buffer is empty."""
    store.execute(append("x", "y", "z"))
    assert store.execute(Lease("me"))
    assert not store.execute(Trim(NOW, 2, "other"))
    assert store.execute(Trim(NOW, 2, "me"))
    assert texts(store) == [(3, "z")]
    assert store.execute(Trim(NOW, 3, "me"))
    assert store.execute(Load()).numbering == Numbering(NOW, 4, 4)
    assert store.execute(append("w")).first == 4
    assert not store.execute(Trim(NOW, 9, "me"))
    assert not store.execute(Trim(NOW - 1, 4, "me"))


def test_lease_is_held_by_one(store: Any) -> None:
    """Until it is given back."""
    assert store.execute(Lease("a"))
    assert not store.execute(Lease("b"))
    assert store.execute(Lease("a"))
    assert not store.execute(Release("b"))
    assert store.execute(Release("a"))
    assert store.execute(Lease("b"))


def test_meta_is_rebuilt_from_members(store: Any) -> None:
    """Without its meta hash the numbering goes on behind the last member."""
    store.execute(append("x", "y", "z"))
    store.execute(Lease("me"))
    store.execute(Trim(NOW, 1, "me"))
    store.drop_meta()
    assert store.execute(Load()).numbering == Numbering(NOW, 4, 2)


def test_wiped_buffer_makes_a_new_epoch(store: Any) -> None:
    """Who remembers the old numbering learns that all of it is gone."""
    seen = store.execute(append("x", "y")).numbering
    store.wipe()
    answer = store.execute(append("z", seen=seen))
    assert (answer.numbering, answer.first, answer.broke) == (Numbering(NOW + 1, 2, 1), 1, 1)


def test_older_buffer_is_numbered_anew(store: Any) -> None:
    """A buffer that gives numbers a second time gets a new epoch; members above `start` come along."""
    store.execute(append("x", "y"))
    answer = store.execute(append("z", seen=Numbering(NOW, 10, 2)))
    assert (answer.numbering, answer.first, answer.broke) == (Numbering(NOW + 1, 3, 1), 2, 3)
    assert answer.previous == NOW
    assert texts(store) == [(1, "y"), (2, "z")]


def test_buffer_of_an_older_epoch_is_numbered_anew(store: Any) -> None:
    """The same when it came back from before a change of epoch."""
    store.execute(append("x"))
    answer = store.execute(append("z", seen=Numbering(NOW + 50, 10, 2)))
    assert (answer.numbering, answer.broke) == (Numbering(NOW + 51, 3, 1), 1)


def test_full_buffer_refuses(store: Any) -> None:
    """Policy block: nothing is numbered, nothing dropped."""
    store.execute(append("x", "y"))
    assert store.execute(append("z", entries_max=2)).status == "full"
    assert store.execute(Load()).numbering == Numbering(NOW, 3, 1)


def test_full_buffer_drops_the_oldest(store: Any) -> None:
    """Policy drop_oldest: told by start, counted in meta."""
    store.execute(append("x", "y"))
    answer = store.execute(append("z", entries_max=2, drop_oldest=True))
    assert (answer.first, answer.numbering) == (3, Numbering(NOW, 4, 2))
    assert store.read_fields()["dropped"] == "1"


def test_skipped_numbers_are_lost(store: Any) -> None:
    """What overflowed in memory is numbered and noted in the same step."""
    store.execute(append("x", skip=3))
    loaded = store.execute(Load(1, 10, 10))
    assert loaded.numbering == Numbering(NOW, 5, 1)
    assert loaded.lost == (Lost(NOW, 2, 4, "overflow"),)
    store.execute(NoteLost((Lost(7, 1, 9, "buffer_lost"),)))
    store.execute(ForgetLost(loaded.lost))
    assert store.execute(Load()).lost == (Lost(7, 1, 9, "buffer_lost"),)


def test_rejected_entry_is_kept_and_lost(store: Any) -> None:
    """Out of the buffer, into the list, its number noted."""
    store.execute(append("x", "y"))
    assert store.execute(Reject(NOW, 1, 'bad "ts"'))
    assert not store.execute(Reject(NOW, 1, "again"))
    assert not store.execute(Reject(NOW + 1, 2, "other epoch"))
    assert texts(store) == [(2, "y")]
    assert store.execute(Load()).lost == (Lost(NOW, 1, 1, "rejected"),)


def test_renumber_needs_lease_and_epoch(store: Any) -> None:
    """Only the sender, only out of the epoch it saw."""
    store.execute(append("x", "y", "z"))
    assert store.execute(Renumber(NOW, 1, 5, NOW, "me")) == Numbering(NOW, 4, 1)
    store.execute(Lease("me"))
    assert store.execute(Renumber(NOW, 1, NOW + 7, NOW, "me")) == Numbering(NOW + 7, 3, 1)
    assert store.execute(Renumber(NOW, 0, 0, NOW, "me")) == Numbering(NOW + 7, 3, 1)
    assert texts(store) == [(1, "y"), (2, "z")]


def test_open_goes_on_elsewhere(store: Any) -> None:
    """A file's numbering is named by the caller, and its place is kept in the same step as its lines."""
    assert store.execute(Open(77, 500))
    answer = store.execute(append("x", expect=(77, 500), fields={"pos:77": "{}"}))
    assert (answer.status, answer.first) == ("ok", 500)
    assert store.execute(append("x", expect=(77, 500))).status == "unexpected"
    assert not store.execute(Open(78, 1))
    assert store.read_fields()["pos:77"] == "{}"


def test_load_is_bounded_by_bytes(store: Any) -> None:
    """At least one entry, at most what fits a body."""
    store.execute(append(*["m" * 1_000_000] * 6))
    assert len(store.execute(Load(1, 9, 500)).entries) == 4
    assert [seq for seq, _ in store.execute(Load(5, 9, 500)).entries] == [5, 6]


COMMANDS = st.one_of(
    st.builds(
        lambda n, token, seen, limits: Append(
            tails(*["m"] * n),
            "i",
            token,
            NOW,
            seen,
            entries_max=limits[0],
            drop_oldest=limits[1],
            skip=limits[2],
        ),
        st.integers(0, 3),
        st.sampled_from("abcdef"),
        st.one_of(
            st.none(), st.builds(Numbering, st.integers(NOW, NOW + 3), st.integers(1, 9), st.integers(1, 4))
        ),
        st.tuples(st.integers(3, 8), st.booleans(), st.integers(0, 2)),
    ),
    st.builds(Trim, st.integers(NOW, NOW + 2), st.integers(0, 8), st.sampled_from("xy")),
    st.builds(Reject, st.integers(NOW, NOW + 2), st.integers(1, 8), st.just("r")),
    st.builds(
        Renumber,
        st.integers(NOW, NOW + 2),
        st.integers(0, 5),
        st.just(0),
        st.just(NOW),
        st.sampled_from("xy"),
    ),
    st.builds(Open, st.integers(NOW, NOW + 3), st.integers(1, 5)),
    st.builds(Lease, st.sampled_from("xy")),
    st.builds(Release, st.sampled_from("xy")),
    st.just("drop_meta"),
    st.just("wipe"),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=st.lists(COMMANDS, max_size=25))
def test_memory_and_redis_agree(valkey: Valkey, commands: list[Any]) -> None:
    """Whatever is asked, in whatever order, both answer and hold the same."""
    real, memory = RedisUnderTest.connect(valkey.url, Keys.of("shop")), MemoryUnderTest()
    try:
        real.wipe()
        for command in commands:
            if isinstance(command, str):
                getattr(real, command)()
                getattr(memory, command)()
                continue
            assert real.execute(command) == memory.execute(command), command
            left, right = real.execute(Load(1, 2**53, 500)), memory.execute(Load(1, 2**53, 500))
            assert (left.numbering, left.entries) == (right.numbering, right.entries)
            assert set(left.lost) == set(right.lost)
    finally:
        real.close()
