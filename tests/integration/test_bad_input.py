"""Bad input at POST /ingest: every line of the error table of ingest.md §2, and what breaks servers.

Nothing of a refused batch is stored, and after each test the server is well: its process lives, /health is
ok, and the next good request is acknowledged (fixture `well_afterwards`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.integration.asking import (
    JSON_TYPE,
    MIB,
    assert_nothing_stored,
    assert_refused,
    batch,
    nested,
    post,
)

pytestmark = pytest.mark.usefixtures("well_afterwards")


def one_entry(text: str) -> Callable[[str], str]:
    """A body whose second entry has this text among its fields; the first one is good."""
    return lambda service: f'{{"service":"{service}","batch":[{{"seq":1}},{{{text}}}]}}'


def document(text: str) -> Callable[[str], str]:
    """A good body with this text among its fields."""
    return lambda service: f'{{"service":"{service}","batch":[{{"seq":7}}],{text}}}'


TOO_MUCH = "x" * (MIB + 1)


BAD_ENTRIES = {
    # the second entry's fields: what is named as bad
    '"seq":0': "seq", '"seq":-1': "seq", f'"seq":{2**53}': "seq", '"seq":"7"': "seq", '"seq":1.5': "seq",
    '"seq":1.0': "seq", '"seq":true': "seq", '"seq":null': "seq", '"message":"no seq"': "seq",
    '"seq":[1]': "seq", '"seq":1e3': "seq", f'"seq":{10**30}': "seq",
    '"seq":2,"level":5': "level", '"seq":2,"message":{}': "message", '"seq":2,"user_id":7': "user_id",
    f'"seq":2,"message":"{TOO_MUCH}"': "message", f'"seq":2,"attrs":{{"x":"{TOO_MUCH}"}}': "attrs",
    '"seq":2,"attrs":[]': "attrs", '"seq":2,"attrs":"x"': "attrs",
    '"seq":2,"ts":"0001-01-01T00:00:00Z"': "ts", '"seq":2,"ts":"1999-12-31T23:59:59.999Z"': "ts",
    '"seq":2,"ts":"9999-12-31T23:59:59Z"': "ts", '"seq":2,"ts":"yesterday"': "ts", '"seq":2,"ts":true': "ts",
    '"seq":2,"ts":1.5e12': "ts", '"seq":2,"ts":{}': "ts", '"seq":2,"ts":-1': "ts", '"seq":2,"ts":""': "ts",
    '"seq":2,"ts":946684799999': "ts", f'"seq":2,"ts":{10**25}': "ts", '"seq":2,"ts":"2026-13-01T00:00:00Z"': "ts",
    '"seq":2,"ts":"1795000000000"': "ts", '"seq":2,"ts":"0000-00-00T00:00:00Z"': "ts",
    '"seq":2,"ts":"0001-01-01T00:00:00+23:59"': "ts", '"seq":2,"ts":"9999-12-31T23:59:59-23:59"': "ts",
    **{
        f'"seq":2,"{name}":"{"x" * (most + 1)}"': name
        for name, most in (
            ("trace_id", 64), ("request_id", 64), ("span_id", 32), ("user_id", 128), ("category", 100),
            ("source", 255), ("host", 255), ("environment", 50), ("user_agent", 255), ("release", 100),
        )
    },
}  # fmt: skip


LOST = ",".join('[1,1,"x"]' for _ in range(1_001))


BAD_DOCUMENTS = {
    # more fields of the document: what is named as bad
    '"epoch":-1': "epoch", '"epoch":"1"': "epoch", '"epoch":1.0': "epoch", f'"epoch":{2**53}': "epoch",
    '"start":0': "start", '"start":8': "start", '"start":"1"': "start", '"start":true': "start",
    f'"batchId":"{"b" * 65}"': "batchId", '"batchId":7': "batchId",
    f'"lost":[{LOST}]': "lost", '"lost":7': "lost", '"lost":[[3,2,"x"]]': "lost[0]", '"lost":[[1,2]]': "lost[0]",
    '"lost":[[1,1,"x"],[0,2,"x"]]': "lost[1][0]", '"lost":[[1,1,7]]': "lost[0]", '"lost":[7]': "lost[0]",
    '"start":8,"lost":[[3,2,"x"]]': "start",
}  # fmt: skip


BAD_JSON: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda s: f'{{"service":"{s}","batch":[{{"seq":1}}',
    "trailing text": lambda s: f'{{"service":"{s}","batch":[{{"seq":1}}]}} x',
    "an array": lambda s: f'[{{"service":"{s}"}}]',
    "a number": lambda _: "7",
    "null": lambda _: "null",
    "UTF-16": lambda s: f'{{"service":"{s}","batch":[{{"seq":1}}]}}'.encode("utf-16"),
    "not UTF-8": lambda s: f'{{"service":"{s}","batch":[{{"seq":1,"message":"'.encode() + b'\xff"}]}',
    "surrogate bytes": lambda s: (
        f'{{"service":"{s}","batch":[{{"seq":1,"message":"'.encode() + b'\xed\xa0\x80"}]}'
    ),
    "raw NUL": lambda s: f'{{"service":"{s}","batch":[{{"seq":1,"message":"\0"}}]}}',
    "NaN seq": one_entry('"seq":NaN'),
    "NaN in attrs": one_entry('"seq":2,"attrs":{"x":NaN}'),
    "Infinity": one_entry('"seq":2,"attrs":{"x":-Infinity}'),
    "1e400 in attrs": one_entry('"seq":2,"attrs":{"x":1e400}'),
    "1e400 in a list": one_entry('"seq":2,"attrs":{"x":[1,[-1e400]]}'),
    "1e400 unknown key": one_entry('"seq":2,"x":1e400'),
    "1e400 in the document": document('"x":1e400'),
    "1e131072": one_entry('"seq":2,"attrs":{"x":1e131072}'),
    "400 digits": one_entry(f'"seq":2,"attrs":{{"x":{"9" * 400}}}'),
    "5000 digits": one_entry(f'"seq":2,"attrs":{{"x":{"9" * 5000}}}'),
    "2^1024 - 1": one_entry(f'"seq":2,"attrs":{{"x":{2**1024 - 1}}}'),
    "depth 10000 in attrs": one_entry(f'"seq":2,"attrs":{{"x":{nested(10_000)}}}'),
    "depth 10000 in an unknown key": one_entry(f'"seq":2,"x":{nested(10_000)}'),
    "depth 10000 in the document": document(f'"x":{nested(10_000)}'),
    "depth 10000 alone": lambda _: nested(10_000),
    "depth 65 in attrs": one_entry(f'"seq":2,"attrs":{{"x":{nested(61)}}}'),
    "depth 65 in an unknown key": one_entry(f'"seq":2,"x":{nested(62)}'),
    "depth 65 in the document": document(f'"x":{nested(64)}'),
}


@pytest.mark.parametrize("text", BAD_ENTRIES, ids=lambda text: text[:48])
async def test_names_the_first_bad_field(text: str, client: httpx.AsyncClient, service: str) -> None:
    answer = await post(client, one_entry(text)(service))
    assert_refused(answer, 400, "invalid_field", f"batch[1].{BAD_ENTRIES[text]}")
    await assert_nothing_stored(client, service)


@pytest.mark.parametrize("text", BAD_DOCUMENTS, ids=lambda text: text[:48])
async def test_names_the_bad_field_of_the_document(
    text: str, client: httpx.AsyncClient, service: str
) -> None:
    assert_refused(await post(client, document(text)(service)), 400, "invalid_field", BAD_DOCUMENTS[text])
    await assert_nothing_stored(client, service)


@pytest.mark.parametrize("name", BAD_JSON)
async def test_refuses_what_is_not_json(name: str, client: httpx.AsyncClient, service: str) -> None:
    assert_refused(await post(client, BAD_JSON[name](service)), 400, "invalid_json")
    await assert_nothing_stored(client, service)


@pytest.mark.parametrize(
    "name", ["", "x" * 101, "a b", "a@b", "é", "a\x00", "a\n", "\ud800", None, 7, True, ["a"], {"a": 1}]
)
async def test_refuses_bad_services(name: object, client: httpx.AsyncClient) -> None:
    answer = await post(client, {"service": name, "batch": [{"seq": 1}]})
    assert_refused(answer, 400, "invalid_field", "service")


async def test_refuses_absent_and_empty_batches(client: httpx.AsyncClient, service: str) -> None:
    for body in ({}, {"batch": []}, {"batch": None}, {"batch": {}}, {"batch": "x"}):
        answer = await post(client, {"service": service, **body})
        assert_refused(answer, 400, "invalid_field", "batch")
    for item in (7, None, [], "x"):
        answer = await post(client, {"service": service, "batch": [{"seq": 1}, item]})
        assert_refused(answer, 400, "invalid_field", "batch[1]")
    await assert_nothing_stored(client, service)


async def test_future_beyond_a_day_is_refused(client: httpx.AsyncClient, service: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=25)
    for ts in (later.isoformat(), int(later.timestamp() * 1000)):
        answer = await post(client, {"service": service, "batch": [{"seq": 1, "ts": ts}]})
        assert_refused(answer, 400, "invalid_field", "batch[0].ts")
    await assert_nothing_stored(client, service)


async def test_acks_takes_two_words(client: httpx.AsyncClient, service: str) -> None:
    for value in ("", "none", "STORED", "stored%00"):
        answer = await client.post(f"/ingest?acks={value}", json=batch(service, 1))
        assert_refused(answer, 400, "invalid_field", "acks")
    await assert_nothing_stored(client, service)


async def test_5001_entries_are_too_large(client: httpx.AsyncClient, service: str) -> None:
    assert_refused(await post(client, batch(service, *range(1, 5_002))), 413, "too_large", "batch")
    await assert_nothing_stored(client, service)
    unknown = [{"seq": n, "x": 1} for n in range(1, 5_002)]
    answer = await post(client, {"service": service, "batch": unknown})
    assert_refused(answer, 413, "too_large", "batch")
    answer = await post(client, batch(service, *range(1, 5_001)))
    assert (answer.status_code, answer.json()["accepted"]) == (200, 5_000)


async def test_encodings_and_types_outside_the_contract(client: httpx.AsyncClient, service: str) -> None:
    body = batch(service, 1)
    for encoding in ("br", "deflate", "gzip, gzip", "compress", "*", "gzip;q=1"):
        assert_refused(await post(client, body, content_encoding=encoding), 415, "unsupported_encoding")
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "json",
    ):
        assert_refused(await post(client, body, content_type=kind), 415, "unsupported_type")
    await assert_nothing_stored(client, service)
    for kind in ("application/json; charset=utf-8", "APPLICATION/JSON"):
        assert (await post(client, body, content_type=kind)).status_code == 200
    assert (await post(client, body, content_encoding="identity")).status_code == 200


async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = await client.request(method, "/ingest")
        assert_refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"
    for path in ("/nothing", "/ingest/x", "/%00", "/ack", "/%ff", "/..%2f..%2fetc/passwd", "/socket.io.x"):
        assert_refused(await client.get(path), 404, "not_found")
    assert_refused(await client.post("/health"), 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    ["/ack/none", "/ack/%00", "/ack/a%ffb", "/ack/%ED%A0%80", f"/ack/{'x' * 5000}", "/ack/none?epoch=5"],
)
async def test_ack_of_unknown_services(path: str, client: httpx.AsyncClient) -> None:
    assert_refused(await client.get(path), 404, "unknown_service")


async def test_ack_of_bad_epochs(client: httpx.AsyncClient, service: str) -> None:
    await post(client, batch(service, 1))
    for epoch in ("-1", "x", "1.0", "9" * 40, str(2**53), "%00", "٣"):
        answer = await client.get(f"/ack/{service}?epoch={epoch}")
        assert_refused(answer, 400, "invalid_field", "epoch")
    assert_refused(await client.get(f"/ack/{service}?epoch=1"), 404, "unknown_service")


QUERIES = (
    "/replay?status=%00", "/replay?service=%00", "/dead-letters?service=%00", "/dead-letters?reason=%00",
    "/proof?service=%00", "/replay?limit=x", "/replay?limit=-1", "/replay?offset=1e9", "/dead-letters?limit=%00",
    "/replay?limit=" + "9" * 400, "/replay?service=%ED%A0%80", "/services?x=%00",
)  # fmt: skip


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path[:40])
async def test_odd_queries_are_answered(path: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(path)
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert_refused(answer, 400, "invalid_field", path.split("?")[1].partition("=")[0])


async def test_ids_beyond_every_row_are_not_found(client: httpx.AsyncClient) -> None:
    for number in (0, 2**31, 2**63, 10**30):
        for path in (f"/replay/{number}/abandon", f"/dead-letters/{number}/retry"):
            assert_refused(await client.post(path, json={}), 404, "not_found")
        answer = await client.request("DELETE", f"/dead-letters/{number}", headers=JSON_TYPE)
        assert_refused(answer, 404, "not_found")
