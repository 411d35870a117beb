"""The two readers of a body: they agree wherever the fast one accepts, and refuse by the contract's words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracehub.protocol import entries
from tracehub.protocol.entries import Batch, parse_batch
from tracehub.protocol.errors import InvalidField, InvalidJSON, TooLarge, TraceHubError
from tracehub.protocol.lenient import load_json, parse_leniently, parse_member
from tracehub.protocol.limits import (
    ATTRS_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    TEXT_CHARS_MAX,
    TS_FUTURE_MS,
    TS_MIN_MS,
)

NOW = 1_795_000_000_000
QUICK = settings(max_examples=60, deadline=None)

SEQS = st.integers(1, 2**53 - 1) | st.integers(1, 30)
WORDS = st.text(max_size=30)
TIMES = st.sampled_from(
    ["2026-01-01T00:00:00Z", "2026-01-01 00:00:00", "2000-01-01T00:00:00+00:00", "1999-12-31T23:59:59Z", "x", ""]
) | st.integers(TS_MIN_MS - 2, NOW + TS_FUTURE_MS + 2)  # fmt: skip
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(10**290, 10**320)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.fixed_dictionaries(
    {"seq": SEQS},
    optional={
        "level": WORDS, "message": WORDS, "ts": TIMES, "user_id": WORDS, "span_id": WORDS, "trace_id": st.none(),
        "attrs": st.dictionaries(WORDS, VALUES, max_size=3) | st.none(), "extra": VALUES,
    },
)  # fmt: skip
BODIES = st.fixed_dictionaries(
    {"service": st.sampled_from(["svc", "a/b:c.d-e_f", "", "a b", "x" * 100])},
    optional={
        "batch": st.lists(ENTRIES, max_size=5),
        "batchId": WORDS,
        "epoch": st.integers(-1, 2**53),
        "start": st.integers(0, 10),
        "lost": st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), WORDS), max_size=3),
        "unknown": VALUES,
    },
)


def read(reader: Any, body: bytes) -> tuple[str, Any]:
    """The batch, or the code and field of the refusal."""
    try:
        return "batch", reader(body, NOW)
    except TraceHubError as refusal:
        return refusal.code, refusal.field


def meant(batch: Batch) -> tuple[Any, ...]:
    """A batch with its attrs as values: the readers may write the same JSON differently."""
    attrs = [None if e.attrs is None else json.loads(e.attrs) for e in batch.entries]
    bare = [tuple(getattr(e, name) for name in e.__struct_fields__ if name != "attrs") for e in batch.entries]
    return batch.service, batch.epoch, batch.batch_id, batch.start, batch.lost, batch.ranges, bare, attrs


@QUICK
@example(body={"service": "s", "batch": [{"seq": 1}], "lost": [[5, 1, "x"], [0, 1, "y"]]})
@example(body={"service": "s", "batch": [{"seq": 1}], "start": 5, "lost": [[0, 1, "y"]]})
@given(body=BODIES)
def test_both_readers_agree(body: dict[str, Any]) -> None:
    """Whatever the fast reader takes or refuses, the second one takes or refuses alike."""
    text = json.dumps(body).encode()
    fast, slow = read(parse_batch, text), read(parse_leniently, text)
    assert fast[0] == slow[0]
    if fast[0] == "batch":
        assert meant(fast[1]) == meant(slow[1])
    else:
        assert fast[1] == slow[1]


@QUICK
@given(body=BODIES, at=st.integers(0, 300), new=st.binary(max_size=2), cut=st.integers(0, 4))
def test_both_readers_agree_on_damaged_bodies(body: dict[str, Any], at: int, new: bytes, cut: int) -> None:
    text = json.dumps(body, ensure_ascii=False).encode()
    at %= len(text)
    damaged = text[:at] + new + text[at + cut :]
    fast, slow = read(parse_batch, damaged), read(parse_leniently, damaged)
    assert fast[0] == slow[0]
    if fast[0] == "batch":
        assert meant(fast[1]) == meant(slow[1])


@QUICK
@given(document=VALUES)
def test_what_is_taken_can_be_stored(document: Any) -> None:
    """UTF-8 without U+0000, numbers that fit a double."""
    text = json.dumps({"service": "s", "batch": [{"seq": 1, "x": document}]}).encode()
    kind, batch = read(parse_batch, text)
    if kind == "invalid_json":
        return
    attrs = batch.entries[0].attrs
    attrs.decode("utf-8")
    assert "\\u0000" not in attrs.decode().replace("\\\\", "")

    def fits(value: Any) -> bool:
        if isinstance(value, list):
            return all(map(fits, value))
        if isinstance(value, dict):
            return all(map(fits, value.values()))
        return not isinstance(value, (int, float)) or abs(float(value)) < float("inf")

    assert fits(json.loads(attrs))


def one(text: str) -> bytes:
    return f'{{"service":"s","batch":[{{"seq":1,{text}}}]}}'.encode()


@pytest.mark.parametrize("name", TEXT_CHARS_MAX)
def test_texts_have_their_lengths(name: str) -> None:
    most = TEXT_CHARS_MAX[name]
    (entry,) = parse_batch(one(f'"{name}":"{"é" * most}"'), NOW).entries
    assert getattr(entry, name) == "é" * most
    for tail in ("", ',"unknown":1'):
        with pytest.raises(InvalidField) as refused:
            parse_batch(one(f'"{name}":"{"é" * (most + 1)}"{tail}'), NOW)
        assert refused.value.field == f"batch[0].{name}"
    (empty,) = parse_batch(one(f'"{name}":""'), NOW).entries
    assert getattr(empty, name) is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (f'"message":"{"é" * (MESSAGE_BYTES_MAX // 2 + 1)}"', "message"),
        (f'"attrs":{{"k":"{"x" * ATTRS_BYTES_MAX}"}}', "attrs"),
        (f'"k":"{"x" * ATTRS_BYTES_MAX}"', "attrs"),
    ],
    ids=["message", "attrs", "unknown key"],
)
def test_a_mebibyte_is_the_most(text: str, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        parse_batch(one(text), NOW)
    assert refused.value.field == f"batch[0].{field}"
    assert parse_batch(one(f'"message":"{"é" * (MESSAGE_BYTES_MAX // 2)}"'), NOW).entries


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        ("946684800000", TS_MIN_MS), ("946684799999", None), (str(NOW + TS_FUTURE_MS), NOW + TS_FUTURE_MS),
        (str(NOW + TS_FUTURE_MS + 1), None), ('"2000-01-01T00:00:00Z"', TS_MIN_MS),
        ('"1999-12-31T23:59:59.9999Z"', None), ('"2026-01-01T00:00:00.0019Z"', 1_767_225_600_001),
        ('"2026-01-01T01:00:00+01:00"', 1_767_225_600_000), ('"2026-01-01 00:00:00"', 1_767_225_600_000),
        ('"2026-01-01"', None), ("true", None), ("1.0", None), ("1e12", None), ('"0001-01-01T00:00:00Z"', None),
        ('"9999-12-31T23:59:59Z"', None), ("[]", None), ('"946684800000"', None),
    ],
)  # fmt: skip
def test_times(ts: str, expected: int | None) -> None:
    for tail in ("", ',"unknown":1'):
        if expected is None:
            with pytest.raises(InvalidField) as refused:
                parse_batch(one(f'"ts":{ts}{tail}'), NOW)
            assert refused.value.field == "batch[0].ts"
        else:
            (entry,) = parse_batch(one(f'"ts":{ts}{tail}'), NOW).entries
            assert (entry.ts_ms, entry.ts_given) == (expected, True)
    (without,) = parse_batch(one('"ts":null'), NOW).entries
    assert (without.ts_ms, without.ts_given) == (NOW, False)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (one(f'"attrs":{{"x":{nested(60)}}}'), True), (one(f'"attrs":{{"x":{nested(61)}}}'), False),
        (one(f'"x":{nested(61)}'), True), (one(f'"x":{nested(62)}'), False),
        (f'{{"service":"s","batch":[{{"seq":1}}],"x":{nested(63)}}}'.encode(), True),
        (f'{{"service":"s","batch":[{{"seq":1}}],"x":{nested(64)}}}'.encode(), False),
        (one(f'"x":{nested(100_000)}'), False), (nested(100_000).encode(), False),
        (one(f'"attrs":{{"x":"{"[" * 500}"}}'), True),
    ],
    ids=["attrs 64", "attrs 65", "key 64", "key 65", "document 64", "document 65", "deep", "bare", "in text"],
)  # fmt: skip
def test_sixty_four_levels_are_the_most(text: bytes, taken: bool) -> None:
    if taken:
        assert parse_batch(text, NOW).entries
    else:
        with pytest.raises(InvalidJSON):
            parse_batch(text, NOW)


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", "1e131072", "9" * 400, str(2**1024 - 1), "NaN", "-Infinity"]
)
def test_numbers_beyond_a_double_are_refused_everywhere(number: str) -> None:
    for text in (
        one(f'"attrs":{{"x":{number}}}'), one(f'"x":[{number}]'),
        f'{{"service":"s","batch":[{{"seq":1}}],"x":{number}}}'.encode(),
    ):  # fmt: skip
        with pytest.raises(InvalidJSON):
            parse_batch(text, NOW)


def test_unknown_keys_give_way_to_attrs() -> None:
    (entry,) = parse_batch(one('"attrs":{"a":1,"_a":2},"a":3,"b":4'), NOW).entries
    assert entry.attrs is not None
    assert json.loads(entry.attrs) == {"a": 1, "_a": 2, "__a": 3, "b": 4}


def test_members_of_a_buffer_pass_the_same_checks() -> None:
    epoch, entry = parse_member(b'{"epoch":7,"seq":3,"message":"m","x":1}', NOW)
    assert (epoch, entry.seq, entry.message, entry.attrs) == (7, 3, "m", b'{"x":1}')
    for bad in (b'{"seq":0}', b"[]", b"x", b'{"seq":1,"ts":"never"}', b'{"epoch":-1,"seq":1}'):
        with pytest.raises((InvalidField, InvalidJSON)):
            parse_member(bad, NOW)


def test_batches_and_lost_lists_are_bounded() -> None:
    many = json.dumps({"service": "s", "batch": [{"seq": n} for n in range(1, 5_002)]}).encode()
    for reader in (parse_batch, parse_leniently):
        with pytest.raises(TooLarge):
            reader(many, NOW)
    for lost in ([[1, 1, ""]] * 1_001, [[2, 1, ""]], [[0, 1, ""]], [[1, 2**53, ""]], [[1, 1]], "x"):
        kinds = {
            read(reader, json.dumps({"service": "s", "lost": lost}).encode())
            for reader in (parse_batch, parse_leniently)
        }
        assert len(kinds) == 1
        ((code, field),) = kinds
        assert code == "invalid_field"
        assert field.startswith("lost")


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("\\u0000", "\ufffd"),
        ("\\ud800", "\ufffd"),
        ("\\ude00\\ud83d", "\ufffd\ufffd"),
        ("\\ud83d\\ude00", "😀"),
    ],
)
def test_text_is_mended_and_pairs_are_kept(given: str, read_as: str) -> None:
    document = load_json(f'{{"k{given}":["{given}"]}}'.encode())
    assert document == {f"k{read_as}": [read_as]}
    (entry,) = parse_batch(one(f'"message":"{given}","level":"{given}"'), NOW).entries
    assert (entry.message, entry.level) == (read_as, read_as)


def test_the_common_body_takes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every test above would prove the slow reader twice."""
    import tracehub.protocol.lenient as slow

    monkeypatch.setattr(slow, "parse_leniently", lambda *_: pytest.fail("the slow reader was asked"))
    one_entry = {"seq": 2, "level": "warn", "message": "m", "ts": NOW, "attrs": {"a": [1.5, "é", None]}}
    body = {
        "service": "s", "epoch": 3, "start": 1, "batchId": "b", "lost": [[1, 1, "x"]], "batch": [one_entry],
    }  # fmt: skip
    batch = entries.parse_batch(json.dumps(body).encode(), NOW)
    assert (batch.service, batch.epoch, batch.lost) == ("s", 3, ((1, 1, "x"),))
