"""Duplicates and conflicts against a dumb model that keeps every number in a dict."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.making import entry, request, stream
from tracehub.pipeline.dedupe import judge, suspects
from tracehub.protocol import ranges as r
from tracehub.protocol.messages import Request, StreamKey, entry_id
from tracehub.storage.ports import StoredRow

QUICK = settings(max_examples=150, deadline=None)
SERVICES = st.sampled_from(["a", "b"])
BATCHES = st.lists(
    st.tuples(SERVICES, st.lists(st.tuples(st.integers(1, 8), st.sampled_from("xy")), min_size=1, max_size=5)),
    min_size=1, max_size=4,
)  # fmt: skip
KNOWN = st.dictionaries(st.tuples(SERVICES, st.integers(1, 8)), st.sampled_from(["x", "y", None]), max_size=8)


def made_of(batches: list[tuple[str, list[tuple[int, str]]]]) -> list[Request]:
    return [
        request((), stream(service), entries=[entry(seq, text) for seq, text in numbers])
        for service, numbers in batches
    ]


def model(
    requests: list[Request], before: dict[tuple[StreamKey, int], str | None]
) -> list[tuple[int, int, list[int]]]:
    """One entry after the other; a text of None is a row that has expired."""
    held: dict[tuple[StreamKey, int], str | None] = dict(before)
    told = []
    for one in requests:
        accepted, duplicates, conflicts = 0, 0, []
        for index, e in enumerate(one.entries):
            place = (one.stream, e.seq)
            if place not in held:
                held[place] = e.message
                accepted += 1
            elif held[place] in (None, e.message):
                duplicates += 1
            else:
                conflicts.append(index)
        told.append((accepted, duplicates, conflicts))
    return told


@QUICK
@given(batches=BATCHES, known=KNOWN)
def test_judge_agrees_with_the_model(batches: Any, known: dict[tuple[str, int], str | None]) -> None:
    requests = made_of(batches)
    streams = {stream("a"), stream("b")}
    ranges = {s: r.of_numbers(n for service, n in known if service == s.numbering) for s in streams}
    rows = {
        s: {
            n: StoredRow(bytes(16), "info", text, 0)
            for (service, n), text in known.items()
            if service == s.numbering and text is not None
        }
        for s in streams
    }
    verdicts = judge(requests, suspects(requests, ranges), rows, ranges)
    expected = model(requests, {(stream(service), n): text for (service, n), text in known.items()})
    assert [(v.accepted, v.duplicates, v.conflicts) for v in verdicts] == expected
    for one, verdict in zip(requests, verdicts, strict=True):
        assert verdict.accepted + verdict.duplicates + len(verdict.conflicts) == len(one.entries)
        assert len(verdict.left_out) == verdict.duplicates + len(verdict.conflicts)


@QUICK
@given(batches=BATCHES)
def test_a_job_that_runs_again_gets_the_same_receipt(batches: Any) -> None:
    """Its own rows, known by their ids, count as accepted."""
    requests = made_of(batches)
    nothing: dict[StreamKey, r.Ranges] = {}
    first = judge(requests, suspects(requests, nothing), {}, nothing)
    rows: dict[StreamKey, dict[int, StoredRow]] = {}
    for one, verdict in zip(requests, first, strict=True):
        for index, e in enumerate(one.entries):
            if index not in verdict.left_out:
                made = StoredRow(entry_id(one.id_base, index), e.level, e.message, e.ts_ms)
                rows.setdefault(one.stream, {})[e.seq] = made
    known = {s: r.of_numbers(held) for s, held in rows.items()}
    again = judge(requests, suspects(requests, known), rows, known)
    assert [(v.accepted, v.duplicates, v.conflicts) for v in again] == [
        (v.accepted, v.duplicates, v.conflicts) for v in first
    ]
    assert all(len(v.left_out) == len(one.entries) for v, one in zip(again, requests, strict=True))


def test_time_counts_only_where_it_is_given() -> None:
    requests = [request((), entries=[entry(1, "m", ts_ms=5)]), request((), entries=[entry(1, "m")]),
                request((), entries=[entry(1, "m", ts_ms=6)])]  # fmt: skip
    first, without, other = judge(requests, suspects(requests, {}), {}, {})
    assert (first.accepted, without.duplicates, other.conflicts) == (1, 1, [0])
