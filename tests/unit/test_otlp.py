"""OTLP logs: the mapping of the contract in both encodings, what is rejected alone, and what refuses a request."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.making import NOW_MS
from tracehub.protocol import otlp, otlp_protobuf
from tracehub.protocol.drafts import DRAFTS_BYTES_MAX, DRAFTS_MAX, Drafts
from tracehub.protocol.errors import InvalidJSON, TooLarge
from tracehub.protocol.limits import MESSAGE_BYTES_MAX
from tracehub.protocol.messages import Entry, Own

NANOS = NOW_MS * 1_000_000
MIB = 1024 * 1024


def any_value(value: Any) -> AnyValue:
    """A Python value as the official class has it."""
    made = AnyValue()
    match value:
        case None:
            pass
        case bool():
            made.bool_value = value
        case str():
            made.string_value = value
        case int():
            made.int_value = value
        case float():
            made.double_value = value
        case bytes():
            made.bytes_value = value
        case list():
            made.array_value.SetInParent()
            made.array_value.values.extend(any_value(item) for item in value)
        case dict():
            made.kvlist_value.SetInParent()
            for key, item in value.items():
                made.kvlist_value.values.add(key=key, value=any_value(item))
    return made


def shown(value: Any) -> Any:
    """The value as it is read back: bytes as base64, numbers that JSON has not as text."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case str():
            return value.replace("\0", "\ufffd")
        case list():
            return [shown(item) for item in value]
        case dict():
            return {shown(key): shown(item) for key, item in value.items()}
    return value


def request(*records: LogRecord, resource: dict[str, Any] | None = None) -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    logs = made.resource_logs.add()
    for key, value in (resource or {}).items():
        logs.resource.attributes.add(key=key, value=any_value(value))
    logs.scope_logs.add(log_records=records)
    return made


def record(body: Any = "m", attributes: dict[str, Any] | None = None, **fields: Any) -> LogRecord:
    made = LogRecord(**{"time_unix_nano": NANOS, **fields})
    if body is not None:
        made.body.CopyFrom(any_value(body))
    for key, value in (attributes or {}).items():
        made.attributes.add(key=key, value=any_value(value))
    return made


def as_json(given: ExportLogsServiceRequest, *, snake: bool = False) -> bytes:
    """OTLP/JSON: protobuf's JSON, but ids in hex."""
    document = MessageToDict(given, preserving_proto_field_name=snake)
    groups = "resource_logs scope_logs log_records" if snake else "resourceLogs scopeLogs logRecords"
    outer, middle, inner = groups.split()
    for logs in document.get(outer, []):
        for scope in logs.get(middle, []):
            for one in scope.get(inner, []):
                for name in ("traceId", "spanId", "trace_id", "span_id"):
                    if name in one:
                        one[name] = base64.b64decode(one[name]).hex().upper()
    return json.dumps(document).encode()


def written(*records: str) -> bytes:
    """A request in JSON that no library would write."""
    return ('{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + ",".join(records) + "]}]}]}").encode()


def read(given: ExportLogsServiceRequest) -> Drafts:
    """Read in every spelling; all of them say the same."""
    found = otlp.read_protobuf(given.SerializeToString(), NOW_MS)
    assert otlp.read_json(as_json(given), NOW_MS) == found
    assert otlp.read_json(as_json(given, snake=True), NOW_MS) == found
    return found


def one(made: LogRecord, **resource: Any) -> Entry:
    found = read(request(made, resource={key.replace("_", "."): value for key, value in resource.items()}))
    assert (len(found.entries), found.rejected) == (1, 0)
    return found.entries[0]


def attrs(entry: Entry) -> Any:
    return None if entry.attrs is None else json.loads(entry.attrs)


def test_every_field_has_its_place() -> None:
    resource = {
        "service.name": "shop",
        "service.version": "1.2",
        "host.name": "pod-1",
        "deployment.environment": "old",
        "deployment.environment.name": "prod",
        "cloud": {"region": "x"},
    }
    made = record(
        "paid", {"user.id": "u-1", "enduser.id": "u-2", "request_id": "r-1", "n": 5},
        severity_number=18, severity_text="Error2", trace_id=bytes(range(16)), span_id=bytes(range(8)),
        event_name="payment",
    )  # fmt: skip
    given = request(made, resource=resource)
    given.resource_logs[0].scope_logs[0].scope.name = "lib"
    given.resource_logs[0].scope_logs[0].scope.attributes.add(key="a", value=any_value(1))
    assert read(given).entries[0] == Entry(
        0, NOW_MS, True, 18, "Error2", "paid",
        read(given).entries[0].attrs,
        trace_id=bytes(range(16)).hex(), span_id=bytes(range(8)).hex(), request_id="r-1", user_id="u-1",
        host="pod-1", environment="prod", release="1.2", own=Own("", "shop", None, None),
    )  # fmt: skip
    assert attrs(read(given).entries[0]) == {
        "user.id": "u-1", "enduser.id": "u-2", "request_id": "r-1", "n": 5, "event_name": "payment",
        "resource": resource, "scope": {"name": "lib", "attributes": {"a": 1}},
    }  # fmt: skip


def test_nothing_given_is_nothing_made_up() -> None:
    entry = one(LogRecord())
    assert entry == Entry(0, NOW_MS, False, 9, "INFO", "", own=Own("", "unknown_service"))
    assert read(ExportLogsServiceRequest()) == Drafts([])


@pytest.mark.parametrize(
    ("number", "text", "severity", "level"),
    [
        (0, "", 9, "INFO"),
        (0, "Warning", 13, "Warning"),
        (0, "nonsense", 9, "nonsense"),
        (13, "", 13, "WARN"),
        (24, "", 24, "FATAL"),
        (17, "info", 17, "info"),
        (5, "x" * 30, 5, "x" * 20),
    ],
)
def test_levels(number: int, text: str, severity: int, level: str) -> None:
    """The number counts; without one, the word does."""
    entry = one(record(severity_number=number, severity_text=text))
    assert (entry.severity, entry.level) == (severity, level)


@pytest.mark.parametrize(
    "number", ['"SEVERITY_NUMBER_WARN2"', "14", '"14"', "14.0", '"severity_number_warn2"']
)
def test_enums_by_number_and_by_name(number: str) -> None:
    assert otlp.read_json(written('{"severityNumber":' + number + "}"), NOW_MS).entries[0].severity == 14


@pytest.mark.parametrize("number", [25, 99, -1])
def test_unknown_severity_is_the_words(number: int) -> None:
    entry = one(record(severity_number=number, severity_text="fatal"))
    assert (entry.severity, entry.level) == (21, "fatal")


@pytest.mark.parametrize(
    ("times", "ts_ms", "given_", "kept"),
    [
        ((NANOS - 1, 5), NOW_MS - 1, True, None),
        ((0, NANOS - 10**9), NOW_MS - 1000, True, None),
        ((0, 0), NOW_MS, False, None),
        ((1, NANOS), NOW_MS, False, "1"),
        ((2**64 - 1, 0), NOW_MS, False, str(2**64 - 1)),
        ((NANOS + 86_400 * 10**9, 0), NOW_MS + 86_400_000, True, None),
        ((NANOS + 86_401 * 10**9, 0), NOW_MS, False, str(NANOS + 86_401 * 10**9)),
        ((946_684_800 * 10**9, 0), 946_684_800_000, True, None),
        ((946_684_800 * 10**9 - 1, 0), NOW_MS, False, str(946_684_800 * 10**9 - 1)),
    ],
)
def test_times(times: tuple[int, int], ts_ms: int, given_: bool, kept: str | None) -> None:
    entry = one(LogRecord(time_unix_nano=times[0], observed_time_unix_nano=times[1]))
    assert (entry.ts_ms, entry.ts_given) == (ts_ms, given_)
    assert attrs(entry) == (None if kept is None else {"time_unix_nano": kept})


@pytest.mark.parametrize("ids", [(bytes(16), bytes(8)), (b"x" * 15, b"x" * 9), (b"", b"")])
def test_zero_and_misshapen_ids_are_none(ids: tuple[bytes, bytes]) -> None:
    entry = one(record(trace_id=ids[0], span_id=ids[1]))
    assert (entry.trace_id, entry.span_id) == (None, None)


def test_long_names_are_cut_and_long_ids_stay_attributes() -> None:
    """Half an id is another id; nothing is lost, for the attributes are whole."""
    entry = one(
        record(attributes={"user.id": "u" * 129, "request.id": "r" * 65}),
        service_name="s" * 101, host_name="h" * 256, service_version="v" * 101, deployment_environment="e" * 51,
    )  # fmt: skip
    assert entry.own == Own("", "s" * 100)
    assert (entry.host, entry.release, entry.environment) == ("h" * 255, "v" * 100, "e" * 50)
    assert (entry.user_id, entry.request_id) == (None, None)
    assert attrs(entry)["user.id"] == "u" * 129
    assert attrs(entry)["resource"]["service.name"] == "s" * 101


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (5, "5"),
        (True, "true"),
        ({"a": [1, None, "x"]}, '{"a":[1,null,"x"]}'),
        ([], "[]"),
    ],
)
def test_other_bodies_are_json(body: Any, message: str) -> None:
    entry = one(record(body))
    assert entry.message == message
    assert attrs(entry) == {"body": shown(body)}


@pytest.mark.parametrize(("body", "message"), [(b"\0\1", "AAE="), (float("-inf"), "-Infinity")])
def test_bodies_that_are_written_as_text_are_text(body: Any, message: str) -> None:
    entry = one(record(body))
    assert (entry.message, entry.attrs) == (message, None)


def test_names_of_ours_do_not_hide_the_senders() -> None:
    entry = one(
        record({"b": 1}, {"resource": "mine", "body": 7, "_body": 8, "truncated": 0}), service_name="x"
    )
    assert attrs(entry) == {
        "_resource": "mine", "__body": 7, "_body": 8, "truncated": 0,
        "resource": {"service.name": "x"}, "body": {"b": 1},
    }  # fmt: skip


def test_long_messages_are_cut_between_characters() -> None:
    entry = one(record("€" * 400_000))
    assert entry.message == "€" * (MESSAGE_BYTES_MAX // 3)
    assert attrs(entry) == {"truncated": True}
    whole = one(record("x" * MESSAGE_BYTES_MAX))
    assert (len(whole.message), whole.attrs) == (MESSAGE_BYTES_MAX, None)
    long_list = one(record(["y" * MIB]))
    assert len(long_list.message) == MESSAGE_BYTES_MAX
    assert attrs(long_list) == {"truncated": True}


def nested(depth: int, *, lists: bool = False) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"k": value}
    return value


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes; written by hand, for the official classes do not go so deep."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def deep_value(depth: int, *, lists: bool) -> bytes:
    """`nested`, as an AnyValue."""
    value = b"\x18\x01"
    for _ in range(depth):
        inner = field(1, value) if lists else field(1, field(1, b"k") + field(2, value))
        value = field(5 if lists else 6, inner)
    return value


def deep_request(value: bytes) -> bytes:
    """A record whose attribute `a` is the value, and another."""
    deep = record().SerializeToString() + field(6, field(1, b"a") + field(2, value))
    return field(1, field(2, field(2, deep) + field(2, record("next").SerializeToString())))


@pytest.mark.parametrize("lists", [True, False])
def test_sixty_four_levels_are_read(lists: bool) -> None:
    """Deeper than protobuf's own parser goes."""
    found = otlp.read_protobuf(deep_request(deep_value(64, lists=lists)), NOW_MS)
    assert [found.rejected, len(found.entries)] == [0, 2]
    assert attrs(found.entries[0]) == {"a": nested(64, lists=lists)}
    assert otlp.read_json(json_nested(64, lists=lists), NOW_MS).entries[0].attrs == found.entries[0].attrs


def test_what_must_be_read_slowly_may_not_be_large() -> None:
    value = deep_value(200, lists=False)
    large = record("x" * otlp_protobuf.ODD_BYTES_MAX)
    body = deep_request(value) + field(1, field(2, field(2, large.SerializeToString())))
    with pytest.raises(TooLarge):
        otlp.read_protobuf(body, NOW_MS)
    assert otlp.read_protobuf(deep_request(value), NOW_MS).rejected == 1


def json_nested(depth: int, *, lists: bool = False) -> bytes:
    """A record nested so deep, and one behind it; written by hand, for no library goes there."""
    before = '{"arrayValue":{"values":[' if lists else '{"kvlistValue":{"values":[{"key":"k","value":'
    after = "]}}" if lists else "}]}}"
    deep = before * depth + '{"intValue":"1"}' + after * depth
    head = f'{{"body":{{"stringValue":"m"}},"timeUnixNano":"{NANOS}","attributes":['
    return written(head + '{"key":"a","value":' + deep + "}]}", '{"body":{"stringValue":"next"}}')


@pytest.mark.parametrize("depth", [65, 70, 99, 240, 400, 20_000])
@pytest.mark.parametrize("lists", [True, False])
def test_deeper_costs_only_its_record(depth: int, lists: bool) -> None:
    found = otlp.read_json(json_nested(depth, lists=lists), NOW_MS)
    assert ([entry.message for entry in found.entries], found.rejected) == (["next"], 1)
    assert "64" in found.reason


@pytest.mark.parametrize("depth", [65, 99, 2_000])
@pytest.mark.parametrize("lists", [True, False])
def test_deeper_costs_only_its_record_in_protobuf(depth: int, lists: bool) -> None:
    value = deep_value(depth, lists=lists)
    found = otlp.read_protobuf(deep_request(value), NOW_MS)
    assert ([entry.message for entry in found.entries], found.rejected) == (["next"], 1)
    deep_body = field(1, field(2, field(2, field(5, value)) + field(2, record("next").SerializeToString())))
    assert otlp.read_protobuf(deep_body, NOW_MS).rejected == 1


def test_large_attributes_cost_only_their_record() -> None:
    found = read(
        request(record(attributes={"a": "x" * MIB}), record("next"), record(attributes={"a": "y" * MIB}))
    )
    assert ([entry.message for entry in found.entries], found.rejected) == (["next"], 2)
    assert "1048576" in found.reason


def test_bad_resource_costs_only_its_records() -> None:
    given = request(record("one"), record("two"), resource={"a": "x" * MIB})
    given.MergeFrom(request(record("three"), resource={"service.name": "well"}))
    found = read(given)
    assert ([entry.message for entry in found.entries], found.rejected) == (["three"], 2)


def test_too_many_records() -> None:
    assert len(read(request(*[record()] * DRAFTS_MAX)).entries) == DRAFTS_MAX
    over = request(*[record()] * (DRAFTS_MAX + 1))
    with pytest.raises(TooLarge):
        otlp.read_protobuf(over.SerializeToString(), NOW_MS)
    with pytest.raises(TooLarge):
        otlp.read_json(as_json(over), NOW_MS)


def test_shared_attributes_do_not_multiply_without_bound() -> None:
    """A resource of half a mebibyte, written with each of its records."""
    records = [record()] * (DRAFTS_BYTES_MAX // (MIB // 2) + 1)
    with pytest.raises(TooLarge):
        otlp.read_protobuf(request(*records, resource={"a": "x" * (MIB // 2)}).SerializeToString(), NOW_MS)


def test_odd_text_is_mended() -> None:
    entry = one(record("a\0b", {"k\0": "v\0"}, severity_text="i\0"), service_name="s\0")
    assert (entry.message, entry.level, entry.own) == ("a\ufffdb", "i\ufffd", Own("", "s\ufffd"))
    assert attrs(entry)["k\ufffd"] == "v\ufffd"
    body = r'{"body":{"stringValue":"\ud83d\ude00 \ud800 \\ud800 \udc00"}}'
    assert otlp.read_json(written(body), NOW_MS).entries[0].message == "😀 \ufffd \\ud800 \ufffd"


def test_text_that_is_no_utf8_is_mended_in_protobuf() -> None:
    made = request(record("XXX and more", {"key": "XXX"}), record("next"), resource={"service.name": "XXX"})
    body = made.SerializeToString().replace(b"XXX", b"\xed\xa0\x80")
    found = otlp.read_protobuf(body, NOW_MS)
    assert [entry.message for entry in found.entries] == ["\ufffd and more", "next"]
    assert found.entries[0].own == Own("", "\ufffd")
    latin = otlp.read_protobuf(made.SerializeToString().replace(b"XXX", b"\xff-\xfe"), NOW_MS)
    assert latin.entries[0].message == "\ufffd-\ufffd and more"


def test_unknown_fields_and_nulls_are_nothing() -> None:
    body = b"""{"unknown": {"a": [1]}, "resourceLogs": [{"schemaUrl": "x", "resource": null, "scopeLogs": [
        {"scope": null, "logRecords": [{"flags": 1, "droppedAttributesCount": 2, "body": {"stringValue": null},
        "attributes": [{"key": "none", "value": {}}, {"key": "n", "value": {"intValue": 7}},
        {"key": "d", "value": {"doubleValue": "-Infinity"}}]}]}]}]}"""
    (entry,) = otlp.read_json(body, NOW_MS).entries
    assert (entry.message, attrs(entry)) == ("", {"none": None, "n": 7, "d": "-Infinity"})
    assert otlp.read_json(b'{"resourceLogs":null}', NOW_MS) == Drafts([])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"resourceLogs":[{]}',
        b'{"resourceLogs":5}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"soon"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":"text"}]}]}]}',
        b'{"resourceLogs":"\xff"}',
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_damaged_json(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        otlp.read_json(body, NOW_MS)


@pytest.mark.parametrize(
    "body", [b"\xff", b"\x0a\x05x", b"not protobuf at all", b"{}", b"\x0a\x04\x12\x02\x12\x09"]
)
def test_damaged_protobuf(body: bytes) -> None:
    with pytest.raises(InvalidJSON):
        otlp.read_protobuf(body, NOW_MS)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for reader in (otlp.read_protobuf, otlp.read_json):
        with contextlib.suppress(InvalidJSON):
            reader(body, NOW_MS)


@given(st.data())
@settings(max_examples=100)
def test_one_flipped_byte_is_read_or_refused(data: st.DataObject) -> None:
    well = request(record({"a": [1, {"b": "ü"}]}, {"x": nested(3)}), resource={"service.name": "s"})
    body = bytearray(well.SerializeToString() + deep_request(deep_value(50, lists=False)))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(InvalidJSON):
        otlp.read_protobuf(bytes(body), NOW_MS)


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(
    st.booleans() | TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = TEXT.filter(lambda name: "\0" not in name and name != "resource")  # which is moved: see above


@given(TEXT, st.dictionaries(NAMES, VALUES, max_size=4), st.integers(0, 24))
def test_what_official_classes_write_is_read_back(
    message: str, attributes: dict[str, Any], number: int
) -> None:
    found = read(request(record(message, attributes, severity_number=number), resource={"a": attributes}))
    (entry,) = found.entries
    assert entry.message == shown(message)
    read_back = attrs(entry)
    assert read_back.pop("resource") == {"a": shown(attributes)}
    assert read_back == shown(attributes)
    assert entry.severity == (number or 9)


@given(VALUES, st.lists(VALUES, max_size=2))
def test_both_protobuf_readers_read_the_same(value: Any, items: list[Any]) -> None:
    """One odd text sends the whole request to the second reader."""
    plain = request(record(value, {"items": items}), record("XXX"))
    body = plain.SerializeToString()
    if body.count(b"XXX") != 1:
        return
    well, odd = (otlp.read_protobuf(body.replace(b"XXX", end), NOW_MS) for end in (b"xxx", b"\xffxx"))
    assert well.entries[0] == odd.entries[0]
    assert odd.entries[1].message == "\ufffdxx"


def test_answers() -> None:
    assert (otlp.response(0, "", as_json=False), otlp.response(0, "", as_json=True)) == (b"", b"{}")
    partial = ExportLogsServiceResponse.FromString(otlp.response(2, "why", as_json=False)).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (2, "why")
    told = {"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "why"}}
    assert json.loads(otlp.response(2, "why", as_json=True)) == told
    status = Status.FromString(otlp.status(3, "bad", as_json=False))
    assert (status.code, status.message) == (3, "bad")
    assert json.loads(otlp.status(14, "later", as_json=True)) == {"code": 14, "message": "later"}
