"""Entries: whatever a program hands over, the server takes what comes of it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracehub_sdk.entry import ATTRS_BYTES_MAX, ENTRY_BYTES_MAX, MESSAGE_BYTES_MAX, TS_MIN_MS, encode
from tracehub_sdk.producer import encode_all
from tracehub_sdk.ranges import cut, merge, size

NOW = 1_700_000_000_000


def made(**entry: Any) -> dict[str, Any]:
    return json.loads("{" + encode(entry, NOW), parse_constant=pytest.fail)  # type: ignore[no-any-return]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ({"message": "x"}, {"ts": NOW, "message": "x"}),
        ({}, {"ts": NOW, "message": ""}),
        ({"message": 7, "level": "x" * 30}, {"ts": NOW, "level": "x" * 20, "message": "7"}),
        ({"message": "\ud800"}, {"ts": NOW, "message": "\ufffd"}),
        ({"message": "", "ts": "2023-11-14T22:13:20Z"}, {"ts": NOW, "message": ""}),
        ({"message": "", "ts": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}, {"ts": NOW, "message": ""}),
        ({"message": "", "ts": datetime(2023, 11, 14, 22, 13, 20)}, {"ts": NOW, "message": ""}),
        ({"message": "", "ts": 5}, {"ts": NOW, "message": "", "attrs": {"_ts": "5"}}),
        ({"message": "", "ts": math.nan}, {"ts": NOW, "message": "", "attrs": {"_ts": "nan"}}),
        ({"message": "", "seq": 9}, {"ts": NOW, "message": "", "attrs": {"seq": 9}}),
        ({"message": "", "a": 1, "attrs": {"a": 2}}, {"ts": NOW, "message": "", "attrs": {"a": 2}}),
        ({"message": "", "attrs": [1]}, {"ts": NOW, "message": "", "attrs": {"_value": [1]}}),
        ({"message": "", "attrs": {"x": math.inf}}, {"ts": NOW, "message": "", "attrs": {"x": "inf"}}),
        ({"message": "", "attrs": {"x": 10**30}}, {"ts": NOW, "message": "", "attrs": {"x": str(10**30)}}),
        ({"message": "", "attrs": {"x": {1}}}, {"ts": NOW, "message": "", "attrs": {"x": "{1}"}}),
        ({"message": "", "attrs": {(1, 2): b"x"}}, {"ts": NOW, "message": "", "attrs": {"(1, 2)": "b'x'"}}),
        (
            {"message": Unprintable(), "attrs": {"x": Unprintable()}},
            {"ts": NOW, "message": "<unprintable Unprintable>", "attrs": {"x": "<unprintable Unprintable>"}},
        ),
    ],
)
def test_entries_are_mended(given_: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Each with the JSON that leaves the process."""
    assert made(**given_) == wanted


def test_ship_leaves_the_time_open() -> None:
    """A line without a time gets the server's time of receipt."""
    assert encode({"message": "x"}, NOW, stamp=False) == '"message":"x"}'


def test_sizes_are_bounded() -> None:
    """Message, attributes and the whole, also when JSON makes six bytes of one."""
    assert len(made(message="ü" * MESSAGE_BYTES_MAX)["message"].encode()) <= MESSAGE_BYTES_MAX
    assert (
        len(encode({"message": "\x01" * MESSAGE_BYTES_MAX, "attrs": {"a": "x" * 900_000}}, NOW))
        < ENTRY_BYTES_MAX
    )
    big = made(message="", attrs={"a": "x" * ATTRS_BYTES_MAX})["attrs"]
    assert big["_cut_bytes"] > ATTRS_BYTES_MAX
    assert len(big["_head"]) == 64 * 1024


def test_depth_and_circles_are_bounded() -> None:
    """64 levels are what the server takes."""
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    text = json.dumps(made(message="", attrs={"deep": deep}))
    assert text.count("[") < 64
    circle: dict[str, Any] = {}
    circle["a"] = circle["b"] = circle
    made(message="", attrs=circle)


@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from(["message", "level", "ts", "attrs", "trace_id", "host"]), st.text(max_size=5)
        ),
        st.recursive(
            st.one_of(
                st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.datetimes()
            ),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=6,
    )
)
def test_anything_becomes_a_valid_entry(entry: dict[str, Any]) -> None:
    """Strict JSON, UTF-8, times in range, never an exception."""
    tail = encode_all([entry], NOW)[0]
    tail.encode()
    document = json.loads("{" + tail, parse_constant=pytest.fail)
    assert isinstance(document["message"], str)
    assert TS_MIN_MS <= document["ts"] <= NOW + 86_400_000
    assert isinstance(document.get("attrs", {}), dict)


RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


@given(RANGES, RANGES)
def test_ranges_agree_with_sets(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    """The dumb second model."""

    def numbers(ranges: list[tuple[int, int]]) -> set[int]:
        return {n for first, last in ranges for n in range(first, last + 1)}

    merged = merge(left)
    assert numbers(merged) == numbers(left)
    assert all(one[1] + 1 < two[0] for one, two in pairwise(merged))
    assert numbers(cut(merged, merge(right))) == numbers(left) - numbers(right)
    assert size(merged) == len(numbers(left))
