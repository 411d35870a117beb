"""Ranges against Python's own sets."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracehub.protocol import ranges as r
from tracehub.storage.postgres.multirange import from_text, to_text

NUMBERS = st.sets(st.integers(1, 60), max_size=40)
PAIRS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=12)
QUICK = settings(max_examples=80, deadline=None)


def as_set(ranges: r.Ranges) -> set[int]:
    return set(r.numbers(ranges))


def assert_canonical(ranges: r.Ranges) -> None:
    """Ascending, disjoint, never touching: so equal sets are equal values."""
    assert all(first <= last for first, last in ranges)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(ranges))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], ()),
        ([1], ((1, 1),)),
        ([2, 1], ((1, 2),)),
        ([5, 1, 2, 2], ((1, 2), (5, 5))),
        ([2**53 - 1, 1], ((1, 1), (2**53 - 1, 2**53 - 1))),
    ],
)
def test_numbers_become_ranges(numbers: list[int], expected: r.Ranges) -> None:
    assert r.of_numbers(numbers) == expected


@QUICK
@given(numbers=NUMBERS)
def test_ranges_hold_exactly_their_numbers(numbers: set[int]) -> None:
    ranges = r.of_numbers(numbers)
    assert_canonical(ranges)
    assert as_set(ranges) == numbers
    assert r.count(ranges) == len(numbers)
    assert r.highest(ranges) == max(numbers, default=0)
    assert [n for n in range(62) if r.contains(ranges, n)] == sorted(numbers)
    for most in (0, 1, 7, 100):
        assert r.first_numbers(ranges, most) == sorted(numbers)[:most]


@QUICK
@given(a=NUMBERS, b=NUMBERS, c=NUMBERS)
def test_operations_are_those_of_sets(a: set[int], b: set[int], c: set[int]) -> None:
    left, right, third = map(r.of_numbers, (a, b, c))
    for made, expected in (
        (r.union(left, right, third), a | b | c),
        (r.subtract(left, right), a - b),
        (r.intersect(left, right), a & b),
        (r.union(), set()),
        (r.union(left), a),
    ):
        assert_canonical(made)
        assert made == r.of_numbers(expected)


@QUICK
@given(pairs=PAIRS)
def test_any_pairs_are_normalised(pairs: list[r.Range]) -> None:
    ranges = r.normalise(pairs)
    assert_canonical(ranges)
    assert as_set(ranges) == {n for first, last in pairs for n in range(first, last + 1)}


@QUICK
@given(numbers=NUMBERS)
def test_text_of_a_multirange_comes_back(numbers: set[int]) -> None:
    ranges = r.of_numbers(numbers)
    assert to_text(ranges) == "{" + ",".join(f"[{a},{b}]" for a, b in ranges) + "}"
    as_postgres_says_it = "{" + ",".join(f"[{a},{b + 1})" for a, b in ranges) + "}"
    assert from_text(as_postgres_says_it) == ranges


def test_no_text_is_no_numbers() -> None:
    assert from_text(None) == from_text("{}") == from_text("") == ()


def test_width_costs_nothing() -> None:
    wide = ((1, 2**53 - 1),)
    assert r.subtract(wide, ((5, 5),)) == ((1, 4), (6, 2**53 - 1))
    assert r.first_numbers(wide, 3) == [1, 2, 3]
    assert r.count(wide) == 2**53 - 1


@given(st.sets(st.integers(1, 400)), st.integers(1, 40), st.integers(0, 60), st.integers(0, 500))
def test_widened_ranges_fit_and_leave_nothing_out(
    wanted: set[int], most: int, first: int, width: int
) -> None:
    window = (first, first + width)
    inside = r.intersect(r.of_numbers(wanted), (window,))
    drawn = r.widened(inside, window, most)
    assert len(drawn) <= most
    assert r.subtract(inside, drawn) == r.EMPTY
    assert r.subtract(drawn, (window,)) == r.EMPTY
    assert len(inside) > most or drawn == inside
