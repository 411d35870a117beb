"""Sets of sequence numbers as ranges.

Guarantee: a `Ranges` is a tuple of inclusive pairs (first, last), ascending, disjoint and never touching, so
equal sets are equal values. Postgres keeps the large sets (`int8multirange`); these are the small ones that
travel: what a job holds, what a reply names, what a buffer has.
Cost: linear in the number of ranges, not in their width. No clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]
Ranges: TypeAlias = tuple[Range, ...]

EMPTY: Ranges = ()


def of_numbers(numbers: Iterable[int]) -> Ranges:
    """The ranges of any numbers, in any order, repeats allowed.

    >>> of_numbers([5, 1, 2, 2])
    ((1, 2), (5, 5))
    """
    ordered = sorted(set(numbers))
    if not ordered:
        return EMPTY
    if ordered[-1] - ordered[0] + 1 == len(ordered):
        return ((ordered[0], ordered[-1]),)
    return normalise((n, n) for n in ordered)


def normalise(pairs: Iterable[Range]) -> Ranges:
    """Sort, merge what overlaps or touches, drop what is empty (first > last)."""
    merged: list[Range] = []
    for first, last in sorted(pair for pair in pairs if pair[0] <= pair[1]):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def union(*sets: Ranges) -> Ranges:
    """Numbers that are in any of the sets."""
    filled = [s for s in sets if s]
    if len(filled) <= 1:
        return filled[0] if filled else EMPTY
    return normalise(pair for s in filled for pair in s)


def subtract(left: Ranges, right: Ranges) -> Ranges:
    """Numbers of `left` that are not in `right`."""
    if not left or not right:
        return left
    kept: list[Range] = []
    at = 0
    for first, last in left:
        start = first
        while at < len(right) and right[at][1] < start:
            at += 1
        probe = at
        while probe < len(right) and right[probe][0] <= last:
            if right[probe][0] > start:
                kept.append((start, right[probe][0] - 1))
            start = right[probe][1] + 1
            probe += 1
        if start <= last:
            kept.append((start, last))
    return tuple(kept)


def intersect(left: Ranges, right: Ranges) -> Ranges:
    """Numbers that are in both."""
    found: list[Range] = []
    i = j = 0
    while i < len(left) and j < len(right):
        first = max(left[i][0], right[j][0])
        last = min(left[i][1], right[j][1])
        if first <= last:
            found.append((first, last))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def count(ranges: Ranges) -> int:
    """How many numbers."""
    return sum(last - first + 1 for first, last in ranges)


def highest(ranges: Ranges) -> int:
    """The greatest number, 0 for none."""
    return ranges[-1][1] if ranges else 0


def contains(ranges: Ranges, number: int) -> bool:
    """Whether one number is in the set (binary search)."""
    low, high = 0, len(ranges)
    while low < high:
        middle = (low + high) // 2
        if ranges[middle][1] < number:
            low = middle + 1
        else:
            high = middle
    return low < len(ranges) and ranges[low][0] <= number


def numbers(ranges: Ranges) -> Iterator[int]:
    """Each number, ascending. Mind the width."""
    for first, last in ranges:
        yield from range(first, last + 1)


def first_numbers(ranges: Ranges, most: int) -> list[int]:
    """The lowest `most` numbers."""
    taken: list[int] = []
    for first, last in ranges:
        room = most - len(taken)
        if room <= 0:
            break
        taken.extend(range(first, min(last, first + room - 1) + 1))
    return taken


def widened(ranges: Ranges, window: Range, most: int) -> Ranges:
    """Ranges within a window, for drawing: where they are more than `most`, they are widened to a grid of so many
    steps, on which neighbours melt together. The SQL of `sequence` does the same."""
    if len(ranges) <= most:
        return ranges
    first, last = window
    step = (last - first) // most + 1
    return normalise(
        (low - (low - first) % step, min(high - (high - first) % step + step - 1, last))
        for low, high in ranges
    )
