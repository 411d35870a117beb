"""Odd but valid values, too much of a thing, and entries that the store refuses."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from tests.eventually import eventually
from tests.integration.asking import (
    JSON_TYPE,
    STRINGS,
    assert_refused,
    batch,
    nested,
    post,
)

pytestmark = pytest.mark.usefixtures("well_afterwards")


@pytest.mark.parametrize("bad", ["\\u0000", "\\ud800", "\\udfff", "\\ud800x", "\\udc00\\ud800"])
async def test_nul_and_lone_surrogates_are_replaced(
    bad: str, client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    fields = ",".join(f'"{name}":"a{bad}b"' for name in STRINGS)
    attrs = f'{{"k{bad}":"v{bad}","deep":[{{"{bad}":["{bad}"]}}]}}'
    body = (
        f'{{"service":"{service}","batchId":"i{bad}d","lost":[[1,1,"why{bad}"]],'
        f'"batch":[{{"seq":2,{fields},"attrs":{attrs},"{bad}own":"{bad}"}}]}}'
    )
    answer = await post(client, body)
    assert answer.status_code == 200, answer.text
    mended = json.loads(f'"{bad}"').replace("\0", "\ufffd")
    mended = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in mended)
    assert answer.json()["batchId"] == f"i{mended}d"
    row = dict(await postgres.fetchrow("select * from logs where service = $1", service) or {})
    assert {name: row[name] for name in STRINGS} == dict.fromkeys(STRINGS, f"a{mended}b")
    assert json.loads(row["attrs"]) == {
        f"k{mended}": f"v{mended}", "deep": [{mended: [mended]}], f"{mended}own": mended
    }  # fmt: skip
    assert await loss_notes(postgres, service) == [f"why{mended}"]


async def loss_notes(postgres: asyncpg.Connection, service: str) -> list[str]:
    rows = await postgres.fetch(
        "select note from losses join ack_state using (stream_id) where numbering = $1", service
    )
    return [row["note"] for row in rows]


async def test_reasons_may_be_long_and_are_cut(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    answer = await post(client, {"service": service, "lost": [[1, 2, "r" * 5_000]]})
    assert (answer.status_code, answer.json()["ackTill"]) == (200, 2)
    assert await loss_notes(postgres, service) == ["r" * 200]


async def test_exactly_64_levels_are_taken(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    fields = f'"seq":1,"attrs":{{"x":{nested(60)}}},"y":{nested(61)}'
    answer = await post(client, f'{{"service":"{service}","batch":[{{{fields}}}],"z":{nested(63)}}}')
    assert answer.status_code == 200, answer.text
    attrs = await postgres.fetchval("select attrs from logs where service = $1", service)
    assert json.loads(attrs) == {"x": json.loads(nested(60)), "y": json.loads(nested(61))}


async def test_numbers_a_double_holds_come_back(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    numbers = [0, -1, 2**53, 2**63, -(2**63) - 1, 2**64, 10**30, 2**1024 - 2**971, 1.5, 1e308, 5e-324, 1e-400]
    text = ",".join(map(str, numbers[:-1])) + ",1e-400"
    for fields in (f'"seq":1,"attrs":{{"n":[{text}]}}', f'"seq":2,"n":[{text}]'):
        answer = await post(client, f'{{"service":"{service}","batch":[{{{fields}}}]}}')
        assert answer.status_code == 200, answer.text
    rows = await postgres.fetch("select attrs from logs where service = $1", service)
    for row in rows:
        assert [float(n) for n in json.loads(row["attrs"])["n"]] == [float(n) for n in numbers]
    assert len(rows) == 2


async def test_unknown_keys_move_into_attrs(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    entry = {"seq": 1, "attrs": {"a": 1, "_a": 2, "b": 3}, "a": "mine", "c": {"d": None}, "tenant_id": "x"}
    answer = await post(client, {"service": service, "batch": [entry], "unknown": [1]})
    assert answer.status_code == 200
    attrs = json.loads(await postgres.fetchval("select attrs from logs where service = $1", service))
    assert attrs == {"a": 1, "_a": 2, "b": 3, "__a": "mine", "c": {"d": None}, "tenant_id": "x"}


async def test_null_is_absent_and_defaults_hold(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    nulls = dict.fromkeys((*STRINGS, "ts", "attrs"), None)
    heads = dict.fromkeys(("batchId", "epoch", "start", "lost"), None)
    answer = await post(client, {"service": service, "batch": [{"seq": 1, **nulls}], **heads})
    assert (answer.status_code, answer.json()["epoch"]) == (200, 0)
    row = dict(await postgres.fetchrow("select * from logs where service = $1", service) or {})
    assert (row["level"], row["severity"], row["message"], row["attrs"]) == ("info", 9, "", None)
    assert abs((datetime.now(UTC) - row["ts"]).total_seconds()) < 60
    assert answer.json()["batchId"] == row["batch_id"]


async def test_level_is_cut_and_its_number_kept(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    levels = ["x" * 21, " Warning ", "EMERGENCY", "nonsense", "", "é" * 30]
    entries = [{"seq": n, "level": level} for n, level in enumerate(levels, 1)]
    assert (await post(client, {"service": service, "batch": entries})).status_code == 200
    rows = await postgres.fetch("select level, severity from logs where service = $1 order by seq", service)
    assert [tuple(row) for row in rows] == [
        ("x" * 20, 9), (" Warning ", 13), ("EMERGENCY", 23), ("nonsense", 9), ("info", 9), ("é" * 20, 9),
    ]  # fmt: skip
    answer = await post(client, {"service": service, "batch": entries})
    assert answer.json()["duplicates"] == len(levels)


async def test_of_equal_keys_the_last_stands(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    text = '"seq":"x","seq":1,"message":"a","message":"b","attrs":{"k":1,"k":2}'
    answer = await post(client, f'{{"service":"?","service":"{service}","batch":[{{{text}}}]}}')
    assert answer.status_code == 200, answer.text
    row = dict(await postgres.fetchrow("select * from logs where service = $1", service) or {})
    assert (row["seq"], row["message"], json.loads(row["attrs"])) == (1, "b", {"k": 2})


async def test_times_in_range_are_kept_to_the_millisecond(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=23)
    given = {
        "2000-01-01T00:00:00Z": datetime(2000, 1, 1, tzinfo=UTC),
        946684800000: datetime(2000, 1, 1, tzinfo=UTC),
        "2000-01-01T01:00:00+01:00": datetime(2000, 1, 1, tzinfo=UTC),
        "2024-02-29 12:00:00.1239": datetime(2024, 2, 29, 12, 0, 0, 123_000, UTC),
        "2024-02-29T12:00:00": datetime(2024, 2, 29, 12, tzinfo=UTC),
        "2024-02-29T12:00:00.999999-05:30": datetime(2024, 2, 29, 17, 30, 0, 999_000, UTC),
        soon.isoformat(): soon.replace(microsecond=soon.microsecond // 1000 * 1000),
    }
    entries = [{"seq": n, "ts": ts} for n, ts in enumerate(given, 1)]
    answer = await post(client, {"service": service, "batch": entries})
    assert answer.status_code == 200, answer.text
    rows = await postgres.fetch("select ts from logs where service = $1 order by seq", service)
    assert [row["ts"] for row in rows] == list(given.values())
    assert (await post(client, {"service": service, "batch": entries})).json()["duplicates"] == len(given)


async def test_lost_alone_needs_no_batch(client: httpx.AsyncClient, service: str) -> None:
    for body in ({"lost": [[1, 3, "gone"]]}, {"lost": [[4, 4, ""]], "batch": []}, {"lost": [], "batch": []}):
        answer = await post(client, {"service": service, **body})
        assert answer.status_code == 200, answer.text
    told = (await client.get(f"/ack/{service}")).json()
    assert (told["ackTill"], told["lostCount"]) == (4, 4)
    exact = [[n, n, "x"] for n in range(5, 1_005)]
    answer = await post(client, {"service": service, "lost": exact})
    assert (answer.status_code, answer.json()["ackTill"]) == (200, 1_004)


async def test_last_possible_number_is_taken(client: httpx.AsyncClient, service: str) -> None:
    top = 2**53 - 1
    answer = await post(client, {"service": service, "batch": [{"seq": top}], "start": top})
    told = answer.json()
    assert (told["ackTill"], told["highestSeen"], told["missingCount"]) == (top, top, 0), answer.text


async def test_a_gap_wider_than_anything_is_counted(client: httpx.AsyncClient, service: str) -> None:
    top = 2**53 - 1
    told = (await post(client, {"service": service, "batch": [{"seq": top}]})).json()
    assert (told["ackTill"], told["missingCount"], told["missingRanges"]) == (0, top - 1, [[1, top - 1]])
    assert told["missing"] == list(range(1, 1_001))
    assert told["replay"]["queued"] == top - 1


async def test_the_2001st_gap_is_refused_and_the_closing_batch_taken(
    client: httpx.AsyncClient, service: str
) -> None:
    most = 2_000
    even = [2 * n for n in range(1, most + 2)]
    assert_refused(await post(client, batch(service, *even)), 429, "too_many_gaps")
    answer = await post(client, batch(service, *even[:most]))
    told = answer.json()
    assert (answer.status_code, told["missingCount"]) == (200, most)
    assert (len(told["missing"]), len(told["missingRanges"])) == (1_000, 1_000)
    for _ in range(2):
        assert_refused(await post(client, batch(service, even[most])), 429, "too_many_gaps")
    assert (await client.get(f"/ack/{service}")).json()["highestSeen"] == even[most - 1]
    assert (await post(client, batch(service, even[most - 1], 4_001))).status_code == 200
    swapped = await post(client, batch(service, 1, 4_003))
    assert (swapped.status_code, swapped.json()["missingCount"]) == (200, most)
    assert_refused(await post(client, batch(service, 4_005)), 429, "too_many_gaps")
    assert (await post(client, batch(service, 3))).json()["missingCount"] == most - 1
    assert (await post(client, batch(service, 4_005))).json()["missingCount"] == most
    answer = await post(client, {"service": service, "lost": [[1, 4_005, "given up"]]})
    assert (answer.status_code, answer.json()["ackTill"]) == (200, 4_005), answer.text


async def test_the_101st_epoch_is_refused(client: httpx.AsyncClient, service: str) -> None:
    for epoch in range(100):
        assert (await post(client, batch(service, 1, epoch=epoch))).status_code == 200
    assert_refused(await post(client, batch(service, 1, epoch=100)), 429, "overloaded")
    assert (await post(client, batch(service, 2, epoch=99))).json()["ackTill"] == 2


async def test_entries_of_every_month_are_stored_in_the_end(
    client: httpx.AsyncClient, postgres: asyncpg.Connection, service: str
) -> None:
    """More partitions than one job may make: the job comes again until all are there."""
    now = datetime.now(UTC)
    months = [
        datetime(year, month, 1, tzinfo=UTC)
        for year, month in itertools.product(range(2000, now.year + 1), range(1, 13))
        if (year, month) <= (now.year, now.month)
    ]
    entries = [{"seq": n + 1, "ts": months[n % len(months)].isoformat()} for n in range(5_000)]
    answer = await post(client, {"service": service, "batch": entries})
    assert answer.status_code in (200, 202), answer.text

    async def is_stored() -> bool:
        return (await client.get(f"/ack/{service}")).json().get("ackTill") == 5_000

    await eventually(is_stored, 30)
    found = await postgres.fetchrow(
        "select count(*) as rows, count(distinct date_trunc('month', ts)) as months from logs where service = $1",
        service,
    )
    assert found is not None
    assert tuple(found) == (5_000, len(months))
    answer = await post(client, {"service": service, "batch": entries})
    assert (answer.status_code, answer.json()["duplicates"]) == (200, 5_000)


@pytest.fixture
async def poison(postgres: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """Postgres refuses one message for ever, or until the constraint is dropped."""
    await postgres.execute("alter table logs add constraint no_poison check (message <> 'poison') not valid")
    yield postgres
    await postgres.execute("alter table logs drop constraint if exists no_poison")


async def test_poison_is_set_aside_alone(
    client: httpx.AsyncClient, poison: asyncpg.Connection, service: str
) -> None:
    body = batch(service, *range(1, 101))
    for place in (36, 70):
        body["batch"][place]["message"] = "poison"
    answer = await post(client, body)
    told = answer.json()
    assert (answer.status_code, told["ackTill"], told["missingCount"]) == (200, 100, 0)
    assert told["accepted"] + told["duplicates"] + told["conflicts"] + told["queued"] == 100
    stored = await poison.fetch("select seq from logs where service = $1 order by seq", service)
    assert [row["seq"] for row in stored] == [n for n in range(1, 101) if n not in (37, 71)]
    assert (await client.get(f"/ack/{service}")).json()["lostCount"] == 2
    listed = (await client.get(f"/dead-letters?service={service}")).json()
    letters = {letter["seq"]: letter for letter in listed["deadLetters"]}
    assert (listed["total"], set(letters)) == (2, {37, 71})
    assert letters[37]["payload"]["message"] == "poison"
    assert letters[37]["batchId"] == told["batchId"]
    reason = letters[37]["reason"]
    assert (await client.get(f"/dead-letters?service={service}&reason={reason}")).json()["total"] == 2
    assert (await client.get(f"/dead-letters?service={service}&reason=conflict")).json()["total"] == 0
    signed = await poison.fetch(
        "select from_seq, reason from losses join ack_state using (stream_id) where numbering = $1", service
    )
    assert {(row["from_seq"], row["reason"]) for row in signed} == {(37, "dead_letter"), (71, "dead_letter")}

    retry = f"/dead-letters/{letters[37]['id']}/retry"
    assert_refused(await client.post(retry, json={}), 409, "conflict")
    assert (await client.get(f"/dead-letters?service={service}")).json()["total"] == 2
    await poison.execute("alter table logs drop constraint no_poison")
    again = await client.post(retry, json={})
    assert (again.status_code, again.json()["ackTill"]) == (200, 100), again.text
    assert (
        await poison.fetchval("select message from logs where service = $1 and seq = 37", service) == "poison"
    )
    assert (await client.get(f"/ack/{service}")).json()["lostCount"] == 1
    assert_refused(await client.post(retry, json={}), 404, "not_found")
    other = f"/dead-letters/{letters[71]['id']}"
    assert (await client.request("DELETE", other, headers=JSON_TYPE)).status_code == 204
    assert (await client.get(f"/dead-letters?service={service}")).json()["total"] == 0
    assert (await client.get(f"/ack/{service}")).json()["lostCount"] == 1
    proof = (await client.get(f"/proof?service={service}")).json()
    assert proof["balanced"], proof


async def test_poison_does_not_hold_up_others_in_its_group(
    client: httpx.AsyncClient, poison: asyncpg.Connection, service: str
) -> None:
    bodies = [batch(f"{service}-{n}", 1, 2, 3) for n in range(20)]
    for body in bodies[::5]:
        body["batch"][1]["message"] = "poison"
    answers = await asyncio.gather(*(post(client, body) for body in bodies))
    assert [(a.status_code, a.json()["ackTill"]) for a in answers] == [(200, 3)] * 20
    count = await poison.fetchval("select count(*) from logs where service like $1", f"{service}-%")
    assert count == 60 - 4
