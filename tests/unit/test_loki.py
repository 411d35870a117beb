"""Loki's push API: labels, levels, precedence, both encodings; no line is refused, a damaged body is."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.making import NOW_MS
from tracehub.protocol import loki
from tracehub.protocol.drafts import DRAFTS_MAX
from tracehub.protocol.errors import InvalidJSON, TooLarge
from tracehub.protocol.limits import MESSAGE_BYTES_MAX
from tracehub.protocol.messages import Entry, Own
from tracehub.protocol.protobuf import classes

NANOS = NOW_MS * 1_000_000
MIB = 1024 * 1024

# As Loki's own push.proto has it: text is text here.
PUSH = classes(
    "logproto",
    {
        "PushRequest": [("streams", 1, "StreamAdapter*")],
        "StreamAdapter": [("labels", 1, "bytes"), ("entries", 2, "EntryAdapter*"), ("hash", 3, "uint64")],
        "EntryAdapter": [
            ("timestamp", 1, "Timestamp"),
            ("line", 2, "bytes"),
            ("structuredMetadata", 3, "LabelPairAdapter*"),
            ("parsed", 4, "LabelPairAdapter*"),
        ],
        "Timestamp": [("seconds", 1, "int64"), ("nanos", 2, "int32")],
        "LabelPairAdapter": [("name", 1, "bytes"), ("value", 2, "bytes")],
    },
)["PushRequest"]

Values = list[list[Any]]


def as_json(*streams: tuple[dict[str, Any], Values]) -> bytes:
    return json.dumps({"streams": [{"stream": s, "values": v} for s, v in streams]}).encode()


def as_protobuf(*streams: tuple[dict[str, Any], Values]) -> bytes:
    made = PUSH()
    for labels, values in streams:
        pairs = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())
        stream = made.streams.add(labels=("{" + ", ".join(pairs) + "}").encode(), hash=7)
        for time, line, *metadata in values:
            entry = stream.entries.add(line=line.encode())
            entry.timestamp.seconds, entry.timestamp.nanos = divmod(int(time), 10**9)
            for name, value in metadata[0].items() if metadata else ():
                entry.structuredMetadata.add(name=name.encode(), value=value.encode())
    return snappy(made.SerializeToString())


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def read(*streams: tuple[dict[str, Any], Values]) -> list[Entry]:
    """Read in both encodings, which say the same."""
    found = loki.read_json(as_json(*streams), NOW_MS)
    assert loki.read_protobuf(as_protobuf(*streams), NOW_MS) == found
    assert found.rejected == 0
    return found.entries


def one(labels: dict[str, Any], metadata: dict[str, Any] | None = None, line: str = "m") -> Entry:
    (entry,) = read((labels, [[str(NANOS), line, *([metadata] if metadata else [])]]))
    return entry


def attrs(entry: Entry) -> Any:
    return None if entry.attrs is None else json.loads(entry.attrs)


def test_every_field_has_its_place() -> None:
    labels = {"app": "shop", "env": "prod", "instance": "pod-1", "level": "warn", "odd": 'a"b\\c\nd'}
    metadata = {"traceID": "ab" * 16, "span_id": "cd" * 8, "user": "u"}
    first, second = read((labels, [[str(NANOS), "paid", metadata], [str(NANOS + 999_999), "again"]]))
    assert first == Entry(
        0, NOW_MS, True, 13, "warn", "paid", first.attrs, trace_id="ab" * 16, span_id="cd" * 8,
        host="pod-1", environment="prod", own=Own("", "shop", None, None),
    )  # fmt: skip
    assert attrs(first) == {**metadata, "labels": labels}
    assert (second.ts_ms, second.trace_id, attrs(second)) == (NOW_MS, None, {"labels": labels})


def test_no_streams_are_no_entries() -> None:
    for body in (
        b'{"streams":[]}',
        b"{}",
        b'{"streams":null}',
        b'{"streams":[{"stream":{"a":"b"},"values":[]}]}',
    ):
        assert loki.read_json(body, NOW_MS).entries == []
    assert loki.read_protobuf(snappy(b""), NOW_MS).entries == []


@pytest.mark.parametrize("at", range(len(loki.SERVICE_LABELS)))
def test_service_is_the_first_of_its_labels(at: int) -> None:
    labels = {name: name for name in reversed(loki.SERVICE_LABELS[at:])}
    assert one(labels).own == Own("", loki.SERVICE_LABELS[at])
    assert one({**labels, loki.SERVICE_LABELS[at]: ""}).own == Own(
        "", loki.SERVICE_LABELS[at + 1] if at + 1 < len(loki.SERVICE_LABELS) else "unknown_service"
    )


@pytest.mark.parametrize(
    ("labels", "metadata", "severity", "level"),
    [
        ({}, {}, 9, "info"),
        ({"level": "Error"}, {}, 17, "Error"),
        ({"level": "error"}, {"detected_level": "debug"}, 5, "debug"),
        ({"lvl": "error", "severity": "crit"}, {}, 21, "crit"),
        ({"detected_level": "unknown"}, {}, 9, "unknown"),
        ({"level": "w" * 30}, {}, 9, "w" * 20),
    ],
)
def test_levels(labels: dict[str, str], metadata: dict[str, str], severity: int, level: str) -> None:
    """Metadata go before labels, names in the order of the contract."""
    entry = one(labels, metadata)
    assert (entry.severity, entry.level) == (severity, level)


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (("environment", "env"), "environment"),
        (("host", "hostname", "instance", "node_name"), "host"),
        (("trace_id", "traceID"), "trace_id"),
        (("span_id",), "span_id"),
    ],
)
def test_precedence(names: tuple[str, ...], field: str) -> None:
    for at, name in enumerate(names):
        assert getattr(one({n: f"label-{n}" for n in names[at:]}), field) == f"label-{name}"
        assert getattr(one(dict.fromkeys(names, "label"), {name: "metadata"}), field) == "metadata"


def test_long_names_are_cut_and_long_ids_stay_labels() -> None:
    labels = {"app": "s" * 101, "host": "h" * 256, "env": "e" * 51, "trace_id": "t" * 65, "span_id": "s" * 33}
    entry = one(labels)
    assert (entry.own, entry.host, entry.environment) == (Own("", "s" * 100), "h" * 255, "e" * 50)
    assert (entry.trace_id, entry.span_id) == (None, None)
    assert attrs(entry) == {"labels": labels}


@pytest.mark.parametrize(
    ("time", "kept"),
    [("5", "5"), (str(2**63 - 1), str(2**63 - 1)), ("soon", "soon"), ("-5", "-5"), ("9" * 5000, "9" * 5000)],
)
def test_impossible_times_are_now(time: str, kept: str) -> None:
    (entry,) = loki.read_json(as_json(({}, [[time, "m"]])), NOW_MS).entries
    assert (entry.ts_ms, entry.ts_given, attrs(entry)) == (NOW_MS, False, {"time_unix_nano": kept})


def test_a_missing_time_is_now() -> None:
    for body in (as_json(({}, [["", "m"]])), as_json(({}, [["0", "m"]])), as_json(({}, [[0, "m"]]))):
        (entry,) = loki.read_json(body, NOW_MS).entries
        assert (entry.ts_ms, entry.ts_given, entry.attrs) == (NOW_MS, False, None)
    (entry,) = loki.read_json(as_json(({}, [[NANOS, "m"]])), NOW_MS).entries
    assert (entry.ts_ms, entry.ts_given) == (NOW_MS, True)


def test_long_lines_are_cut_between_characters() -> None:
    entry = one({"a": "b"}, {"truncated": "mine"}, "€" * 400_000)
    assert entry.message == "€" * (MESSAGE_BYTES_MAX // 3)
    assert attrs(entry) == {"_truncated": "mine", "labels": {"a": "b"}, "truncated": True}


def test_attributes_that_are_too_large_refuse_no_line() -> None:
    assert attrs(one({"a": "b"}, {"big": "x" * MIB})) == {"labels": {"a": "b"}, "truncated": True}
    assert attrs(one({"a": "x" * MIB})) == {"truncated": True}
    assert attrs(one({"a": "x" * MIB}, {"k": "v"})) == {"k": "v", "truncated": True}


def test_what_is_no_text_is_kept() -> None:
    values = [
        [str(NANOS), {"a": [1]}, {"n": 5, "big": 2**70, "deep": {"er": [None]}}],
        [str(NANOS), 7, "odd"],
    ]
    first, second = loki.read_json(as_json(({"app": 7, "flag": True}, values)), NOW_MS).entries
    assert (first.message, second.message, first.own) == ('{"a":[1]}', "7", Own("", "7"))
    labels = {"app": 7, "flag": True}
    assert attrs(first) == {"n": 5, "big": str(2**70), "deep": {"er": [None]}, "labels": labels}
    assert attrs(second) == {"_value": "odd", "labels": labels}


def test_odd_text_is_mended() -> None:
    assert (
        loki.read_json(rb'{"streams":[{"values":[["","a\u0000\ud800"]]}]}', NOW_MS).entries[0].message
        == "a\ufffd\ufffd"
    )
    made = PUSH()
    stream = made.streams.add(labels=b'{app="\xff"}')
    stream.entries.add(line=b"\xff\x00 and more")
    (entry,) = loki.read_protobuf(snappy(made.SerializeToString()), NOW_MS).entries
    assert (entry.message, entry.own) == ("\ufffd\ufffd and more", Own("", "\ufffd"))


def test_too_many_lines() -> None:
    line = [str(NANOS), "m"]
    assert len(read(({}, [line] * DRAFTS_MAX))) == DRAFTS_MAX
    for labels in ({}, {"a": "b"}):
        streams = ({}, [line] * (DRAFTS_MAX // 2)), (labels, [line] * (DRAFTS_MAX // 2 + 1))
        with pytest.raises(TooLarge):
            loki.read_json(as_json(*streams), NOW_MS)
        with pytest.raises(TooLarge):
            loki.read_protobuf(as_protobuf(*streams), NOW_MS)


def test_shared_labels_do_not_multiply_without_bound() -> None:
    with pytest.raises(TooLarge):
        loki.read_json(as_json(({"a": "x" * (MIB // 2)}, [["", "m"]] * 200)), NOW_MS)


def varint(number: int) -> bytes:
    written = b""
    while number > 127:
        written, number = written + bytes([number & 127 | 128]), number >> 7
    return written + bytes([number])


@pytest.mark.parametrize("claimed", [10 * MIB + 1, 2**31, 2**32 - 1])
def test_what_claims_to_be_large_is_not_inflated(claimed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes that promise four gibibytes."""

    def never(_: bytes) -> bytes:
        raise AssertionError("inflated")

    monkeypatch.setattr(loki.cramjam.snappy, "decompress_raw", never)
    with pytest.raises(TooLarge):
        loki.read_protobuf(varint(claimed) + b"\x00\x00", NOW_MS)


def test_ten_mebibytes_are_inflated() -> None:
    assert len(loki.unsnapped(snappy(b"x" * loki.INFLATED_BYTES_MAX))) == loki.INFLATED_BYTES_MAX
    with pytest.raises(TooLarge):
        loki.unsnapped(snappy(b"x" * (loki.INFLATED_BYTES_MAX + 1)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        b"\x05\x00",
        b"\xff" * 12,
        b"\x0a" + b"\x28hello",
        snappy(b"\xff\xff"),
        snappy(b"\x0a\x05a"),
    ],
)
def test_damaged_protobuf(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        loki.read_protobuf(body, NOW_MS)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"streams":5}',
        b'{"streams":[{"values":[["1"]]}]}',
        b'{"streams":[{"values":["line"]}]}',
        b'{"streams":[{"stream":"{}","values":[]}]}',
        b'{"streams":[{"values":[["","\xff"]]}]}',
        b'{"streams":[{"stream":{"a":' + b"[" * 65 + b"]" * 65 + b'},"values":[["1","m"]]}]}',
        b'{"streams":[{"values":[["1","m",{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]]}]}",
    ],
)
def test_damaged_json(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        loki.read_json(body, NOW_MS)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {}),
        ("{}", {}),
        ("{ }", {}),
        ('{a="b", c="d\\"e"}', {"a": "b", "c": 'd"e'}),
        ('{a="b",c="d",}', {"a": "b", "c": "d"}),
        (r'{a="\n\t\\\x41\101\u00e9\U0001F600"}', {"a": "\n\t\\AAé😀"}),
        ('{a=`raw \\n "x"`}', {"a": 'raw \\n "x"'}),
        ('{"a.b c"="d", e=","}', {"a.b c": "d", "e": ","}),
        (r'{a="\ud800"}', {"a": "\ufffd"}),
    ],
)
def test_labels(text: str, labels: dict[str, str]) -> None:
    assert loki.labels_of(text) == labels


@pytest.mark.parametrize(
    "text", ["a", "{a}", '{a="b}', "{a=b}", '{a!="b"}', '{a="b" c="d"}', '{="b"}', "{,}"]
)
def test_labels_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidJSON):
        loki.labels_of(text)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)


@given(
    st.dictionaries(NAMES, TEXT, max_size=4),
    st.dictionaries(NAMES, TEXT, max_size=3),
    TEXT,
    st.integers(0, 10**6),
)
def test_what_is_written_is_read_back(
    labels: dict[str, str], metadata: dict[str, str], line: str, before: int
) -> None:
    (entry,) = read((labels, [[str(NANOS - before * 10**6), line, metadata]]))
    assert (entry.message, entry.ts_ms) == (line, NOW_MS - before)
    read_back = attrs(entry) or {}
    if labels:
        assert read_back.pop("labels") == labels
    elif "labels" in metadata:
        assert read_back.pop("labels") == metadata["labels"]
    assert {name: read_back.get(name) for name in metadata if name != "labels"} == {
        name: value for name, value in metadata.items() if name != "labels"
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for reader in (loki.read_json, loki.read_protobuf):
        for given_ in (body, snappy(body)):
            with contextlib.suppress(InvalidJSON, TooLarge):
                reader(given_, NOW_MS)
