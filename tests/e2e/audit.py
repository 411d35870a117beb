"""acked − stored = ∅, no row twice, the proof balances, `tracehub verify` is clean: asked of the stores themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import httpx

from tests.e2e.stack import Stack, verify
from tests.e2e.told import Told
from tests.eventually import eventually

TWICE = "select stream_id, seq, count(*) from logs group by 1, 2 having count(*) > 1 limit 10"
BROKEN_PROMISES = """
select p.seq from unnest($2::bigint[]) as p(seq)
where not exists (select from logs l where l.stream_id = $1 and l.seq = p.seq)
  and not exists (select from losses s where s.stream_id = $1 and p.seq between s.from_seq and s.to_seq)
limit 10"""
OF_ANOTHER = "select seq, message from logs where stream_id = $1 and message <> $2 || seq limit 10"
LOST = "select numbering, from_seq, to_seq, reason from losses join ack_state using (stream_id) limit 10"
MESSAGES = "select count(*) as rows, count(distinct message) as messages from logs where service = $1"


async def audit(stack: Stack, told: Told, appended: Mapping[str, int]) -> None:
    """Nobody produces any more. `appended`: how many entries each service has made, all of them told as stored."""
    assert told.wrong == []
    await eventually(lambda: _balances(stack.http), 30)
    connection = await asyncpg.connect(stack.database_url, ssl=False)
    try:
        assert [dict(row) for row in await connection.fetch(TWICE)] == []
        assert [dict(row) for row in await connection.fetch(LOST)] == []
        await _promises(connection, told)
        for service, count in appended.items():
            row = await connection.fetchrow(MESSAGES, service)
            assert (service, row["rows"], row["messages"]) == (service, count, count)
    finally:
        await connection.close()
    status, said = await asyncio.to_thread(verify, stack)
    assert (status, said.get("clean")) == (0, True), said


async def _promises(connection: asyncpg.Connection, told: Told) -> None:
    for (service, epoch), till in told.ack_till.items():
        ledger = await connection.fetchrow(
            "select stream_id, ack_till(received, lost) from ack_state where numbering = $1 and epoch = $2",
            service, epoch,
        )  # fmt: skip
        assert ledger is not None, f"{service} in epoch {epoch} was acknowledged and is unknown"
        assert ledger["ack_till"] >= till
        promised = sorted({*range(1, till + 1), *told.stored[service, epoch]})
        broken = await connection.fetch(BROKEN_PROMISES, ledger["stream_id"], promised)
        assert [row["seq"] for row in broken] == [], f"{service} was told that these are stored"
        if service.startswith("raw-"):
            others = await connection.fetch(OF_ANOTHER, ledger["stream_id"], f"{service} says ")
            assert [dict(row) for row in others] == []


async def _balances(http: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=http, trust_env=False, timeout=10) as client:
        try:
            answer = await client.get("/proof")
        except httpx.TransportError as error:
            raise AssertionError(f"no proof: {error!r}") from error
    assert answer.status_code == 200, answer.text
    proof: dict[str, Any] = answer.json()
    assert proof["balanced"], proof
    totals = proof["totals"]
    assert [totals[name] for name in ("inFlight", "buffered", "unaccounted", "conflicts")] == [0, 0, 0, 0]
    assert totals["stored"] == totals["produced"]
    assert proof["epochBreaks"] == []
    return proof
