"""Inclusive ranges of numbers as pairs, sorted and apart: [(1, 3), (7, 7)]."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers, sorted, touching ranges joined, empty ones left out."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if first > last:
            continue
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def cut(ranges: Iterable[Range], without: Iterable[Range]) -> list[Range]:
    """Numbers of `ranges` that are not in `without`; both as `merge` gives them."""
    rest: list[Range] = []
    holes = list(without)
    for first, last in ranges:
        for low, high in holes:
            if high < first:
                continue
            if low > last:
                break
            if low > first:
                rest.append((first, low - 1))
            first = high + 1  # noqa: PLW2901 - what is left of this range
        if first <= last:
            rest.append((first, last))
    return rest


def size(ranges: Iterable[Range]) -> int:
    """How many numbers."""
    return sum(last - first + 1 for first, last in ranges)
