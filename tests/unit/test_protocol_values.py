"""Severity, ids, messages and rows: the small values that everything else is made of."""

from __future__ import annotations

import math
import re
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.making import NOW_MS, entry, request, stream
from tracehub.protocol import messages as m
from tracehub.protocol.ids import id_base, sortable_id
from tracehub.protocol.logentry import log_entry
from tracehub.protocol.severity import NUMBER_OF, number_of, word_of
from tracehub.protocol.times import iso, parse_iso, parse_time
from tracehub.storage.postgres.rows import COLUMNS, SIGNATURE, TRAILER, EncodedRows, encode_request

QUICK = settings(max_examples=60, deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
TABLE = {  # log-service.md §2: word -> number, the log-service's word
    "trace": (1, "DEBUG"), "verbose": (1, "DEBUG"), "debug": (5, "DEBUG"), "info": (9, "INFO"),
    "information": (9, "INFO"), "informational": (9, "INFO"), "notice": (10, "INFO"), "warn": (13, "WARN"),
    "warning": (13, "WARN"), "error": (17, "ERROR"), "err": (17, "ERROR"), "critical": (21, "FATAL"),
    "crit": (21, "FATAL"), "fatal": (21, "FATAL"), "panic": (21, "FATAL"), "alert": (22, "FATAL"),
    "emergency": (23, "FATAL"), "emerg": (23, "FATAL"),
}  # fmt: skip


def test_levels_are_those_of_the_table() -> None:
    assert {word: (number, word_of(number)) for word, number in NUMBER_OF.items()} == TABLE
    for word, (number, _) in TABLE.items():
        assert {number_of(word.upper()), number_of(word.title()), number_of(f" {word} ")} == {number}
    assert (number_of(None), number_of(""), number_of("nonsense"), number_of("x", 17)) == (9, 9, 9, 17)


@pytest.mark.parametrize(
    ("numbers", "word"),
    [(range(1, 9), "DEBUG"), (range(9, 13), "INFO"), (range(13, 17), "WARN"), (range(17, 21), "ERROR"),
     (range(21, 25), "FATAL")],
)  # fmt: skip
def test_every_number_has_a_word(numbers: range, word: str) -> None:
    assert {word_of(n) for n in numbers} == {word}


@QUICK
@given(ms=st.integers(0, 2**48 - 1), random=st.binary(min_size=6, max_size=6), index=st.integers(0, 5_000))
def test_ids_are_uuid7_and_ascend_within_a_request(ms: int, random: bytes, index: int) -> None:
    base = id_base(ms, random)
    made = uuid.UUID(bytes=m.entry_id(base, index))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert int.from_bytes(made.bytes[:6], "big") == ms
    assert m.entry_id(base, index) < m.entry_id(base, index + 1)


def test_batch_ids_sort_by_time() -> None:
    made = [sortable_id(ms, b"\xff" * 10 if ms % 2 else b"\0" * 10) for ms in range(NOW_MS, NOW_MS + 50)]
    assert made == sorted(made)
    assert len({len(i) for i in made}) == 1
    assert all(re.fullmatch(r"[0-9A-Za-z]{20,64}", i) for i in made)


ENTRIES = st.builds(
    m.Entry,
    seq=st.integers(1, 2**53 - 1), ts_ms=st.integers(946_684_800_000, NOW_MS), ts_given=st.booleans(),
    severity=st.integers(1, 24), level=TEXT, message=TEXT, attrs=st.none() | st.just(b'{"a":1}'),
    trace_id=st.none() | TEXT, request_id=st.none() | TEXT, category=st.none() | TEXT, host=st.none() | TEXT,
)  # fmt: skip


@QUICK
@given(
    entries=st.lists(ENTRIES, max_size=4),
    lost=st.lists(st.tuples(st.integers(1), st.integers(1), TEXT), max_size=2),
)
def test_messages_come_back_as_they_were(entries: list[m.Entry], lost: list[tuple[int, int, str]]) -> None:
    lost = [(a % 2**53, b % 2**53, text) for a, b, text in lost]
    made = request((), entries=entries, start=1, lost=tuple(lost))
    job = m.Job(1, "id", "backend", [made])
    assert m.decode_job(m.encode(job)) == job
    mark = m.Mark((m.MarkedStream(stream(), made.ranges),), len(entries), 10, NOW_MS)
    assert m.decode_mark(m.encode(mark)) == mark
    receipt = m.Receipt("id", [m.Outcome(1, 2, 3, "", 4, 5, ((6, 7),), 8, 9)])
    assert m.decode_receipts(m.encode([receipt])) == [receipt]
    for one in entries:
        assert m.decode_entry(m.encode(one)) == one


def fields_of(row: bytes) -> list[bytes | None]:
    """A row of the binary COPY format as its fields; every byte must belong to one."""
    assert int.from_bytes(row[:2], "big") == len(COLUMNS)
    at, fields = 2, []
    while at < len(row):
        length = int.from_bytes(row[at : at + 4], "big", signed=True)
        at += 4
        fields.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    assert at == len(row)
    return fields


@QUICK
@given(entries=st.lists(ENTRIES, min_size=1, max_size=4))
def test_rows_say_their_lengths_truly(entries: list[m.Entry]) -> None:
    made = request((), entries=entries)
    for index, row in enumerate(encode_request(made, 7, NOW_MS)):
        fields = dict(zip(COLUMNS, fields_of(row), strict=True))
        one = entries[index]
        assert int.from_bytes(fields["stream_id"] or b"", "big") == 7
        assert int.from_bytes(fields["seq"] or b"", "big") == one.seq
        assert fields["id"] == m.entry_id(made.id_base, index)
        assert fields["message"] == one.message.encode()
        assert fields["level"] == one.level.encode()
        assert fields["trace_id"] == (None if one.trace_id is None else one.trace_id.encode())
        assert fields["attrs"] == (None if one.attrs is None else b"\x01" + one.attrs)
        assert fields["app_id"] is None


async def test_rows_left_out_are_not_sent() -> None:
    first, second = request([1, 2, 3]), request([4, 5])
    rows = EncodedRows([first, second], {stream(): 1}, NOW_MS)
    rows.leave_out(0, {1})
    rows.leave_out(1, {0, 1})
    assert len(rows) == 2
    sent = b"".join([chunk async for chunk in rows.chunks()])
    kept = encode_request(first, 1, NOW_MS)
    assert sent == SIGNATURE + b"\0\0" * 0 + kept[0] + kept[2] + TRAILER


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (946_684_800_001, "2000-01-01T00:00:00.001Z"),
        (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_written_with_milliseconds(ms: int, text: str) -> None:
    assert iso(ms) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2024-01-15T10:30:00.1239999+02:00", "2024-01-15T08:30:00.123Z"),
        ("2023-12-31T23:59:59.9999999Z", "2023-12-31T23:59:59.999Z"),
        ("2024-01-15 10:30:00.123999", "2024-01-15T10:30:00.123Z"),
    ],
)
def test_digits_below_the_millisecond_are_cut(text: str, shown: str) -> None:
    assert iso(parse_time(text)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2025-01-15", "2025-01-15T00:00:00.000Z"),
        ("2025-01-15T00:30Z", "2025-01-15T00:30:00.000Z"),
        ("20250115T003000+0200", "2025-01-14T22:30:00.000Z"),
        ("2025-01-15T00:30:00,5Z", "2025-01-15T00:30:00.500Z"),
        ("2025-W03-3T00:00:00Z", "2025-01-15T00:00:00.000Z"),
    ],
)
def test_other_times_of_iso_8601(text: str, shown: str) -> None:
    assert iso(parse_iso(text)) == shown
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_time(text)


@pytest.mark.parametrize("text", ["", "soon", "2025-13-01", "20", "2025-01-15T25:00Z"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        parse_iso(text)


def test_shown_entries_take_any_number_an_encoder_takes() -> None:
    one = entry(1)
    attrs = b'{"a":' + b"9" * 30 + b',"b":[18446744073709551615,-9223372036854775809],"c":1.5}'
    made = request((), entries=[m.Entry(*[getattr(one, f) for f in m.Entry.__struct_fields__[:6]], attrs)])
    shown = log_entry(made, 0, NOW_MS)["metadata"]
    assert shown == {"a": 1e30, "b": [2**64 - 1, float(-(2**63) - 1)], "c": 1.5}
    assert math.isfinite(shown["a"])
