"""`make bench`: how fast the promise is, as ratios against ceilings of the same run. See README.md here.

python -m benchmarks [--quick] [--only b,c,d,e,f] [--pairs 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import uvloop

from benchmarks import load
from benchmarks.ceiling import BATCH, Ceiling
from benchmarks.figures import Figure, machine, ratio, write
from benchmarks.stack import Stack, bare, stack
from tracehub.storage.postgres.verify import verify

GENERATOR = "benchmarks/load.py: uvloop protocols, raw HTTP/1.1, bodies made before the clock starts"
CONNECTIONS = 16
SINGLE_CONNECTIONS = 64


@dataclass
class Bench:
    """One run over one stack."""

    stack: Stack
    rows: int
    pairs: int
    document: dict[str, Any] = field(default_factory=dict)
    _runs: int = 0

    def bodies(self, rows: int, services: int, *, connections: int = CONNECTIONS) -> list[list[bytes]]:
        """500-entry batches of fresh streams, dealt out to connections."""
        self._runs += 1
        now_ms = int(time.time() * 1000)
        streams: list[list[bytes]] = [[] for _ in range(connections)]
        for i in range(rows // BATCH):
            service = f"bench-{self._runs}-{i % services}"
            first = 1 + BATCH * (i // services)
            streams[i % connections].append(load.body(service, first, BATCH, seed=i, now_ms=now_ms))
        return streams

    async def end_to_end(self, rows: int, services: int) -> float:
        """Rows per second, HTTP in, reply after commit."""
        result = await load.run(self.stack.url, self.bodies(rows, services))
        assert result.statuses == {200: rows // BATCH}, result.statuses
        assert result.accepted == rows
        return rows / result.seconds

    async def ceilings(self) -> None:
        """(a), (a'), (b): interleaved, so that each pair saw the same machine."""
        ceiling = Ceiling(self.rows, int(time.time() * 1000))
        connection = await asyncpg.connect(self.stack.database_url)
        names = ("a", "a_indexed", "a_bytes", "a_indexed_bytes")
        seen: dict[str, list[float]] = {name: [] for name in (*names, "b")}
        await self.end_to_end(self.rows, 3)  # warm
        for pair in range(self.pairs):
            for name in names:
                value = await ceiling.measure(
                    connection, indexed="indexed" in name, encoded=name.endswith("bytes")
                )
                seen[name].append(value)
            seen["b"].append(await self.end_to_end(self.rows, 3))
            print(
                f"  pair {pair + 1}: " + ", ".join(f"{k} {v[-1]:,.0f}" for k, v in seen.items()), flush=True
            )
        await connection.close()
        for name, values in seen.items():
            self.say(f"({name}) rows/s", Figure.of(values), ",.0f")
        for name, target in (("a", 0.5), ("a_indexed", 0.85), ("a_bytes", None), ("a_indexed_bytes", None)):
            self.say(f"b / {name}", ratio(seen["b"], seen[name]), ".2f", target)

    async def singles(self, target: float) -> None:
        """(c): one entry a request, 64 connections, each a service of its own."""
        rates: list[float] = []
        ceiling: list[float] = []
        with bare() as nothing:
            for _ in range(self.pairs):
                ceiling.append(await self._single_rate(nothing))
                rates.append(await self._single_rate(self.stack.url))
        workers = len(self.stack.pids) - 1
        self.say("(c bare) requests/s, route that does nothing", Figure.of(ceiling), ",.0f")
        self.say(f"(c) requests/s, {workers} worker(s)", Figure.of(rates), ",.0f", target)
        self.say(f"c / c bare, {workers} worker(s)", ratio(rates, ceiling), ".2f")

    async def _single_rate(self, url: str) -> float:
        # Some seconds: in one, that 64 services begin is a tenth of what is measured.
        per_connection = max(20, self.rows // 250)
        self._runs += 1
        now_ms = int(time.time() * 1000)
        streams = [
            [
                load.body(f"single-{self._runs}-{c}", 1 + i, 1, seed=i, now_ms=now_ms)
                for i in range(per_connection)
            ]
            for c in range(SINGLE_CONNECTIONS)
        ]
        result = await load.run(url, streams)
        assert result.accepted == per_connection * SINGLE_CONNECTIONS
        return result.requests / result.seconds

    async def latency(self, busy_rows: float) -> None:
        """(d): ACK latency of one small batch, idle and at half load."""
        idle = await self._probe("idle", None)
        self.say("(d) idle p50 ms", Figure.of([idle.quantile(0.5)]), ".2f")
        self.say("(d) idle p99 ms", Figure.of([idle.quantile(0.99)]), ".2f")
        half = await self._probe("half", busy_rows / 2)
        self.say("(d) half load p50 ms", Figure.of([half.quantile(0.5)]), ".2f")
        self.say("(d) half load p99 ms", Figure.of([half.quantile(0.99)]), ".2f")

    async def _probe(self, name: str, rows_per_second: float | None) -> load.Result:
        now_ms = int(time.time() * 1000)
        self._runs += 1
        probe = [[load.body(f"{name}-{self._runs}", 1 + i, 1, seed=i, now_ms=now_ms) for i in range(200)]]
        if rows_per_second is None:
            return await load.run(self.stack.url, probe, rate=20)
        background = self.bodies(int(rows_per_second * 10), 3)
        busy = asyncio.create_task(load.run(self.stack.url, background, rate=rows_per_second / BATCH))
        result = await load.run(self.stack.url, probe, rate=20)
        await busy
        return result

    async def scale(self, base: float) -> None:
        """(f): 3 → 300 services, and ten times the rows already stored."""
        few, many = [], []
        for _ in range(self.pairs):
            few.append(await self.end_to_end(self.rows, 3))
            many.append(await self.end_to_end(self.rows, 300))
        self.say("(f) 300 services / 3 services", ratio(many, few), ".2f", 0.85)
        connection = await asyncpg.connect(self.stack.database_url)
        stored = await connection.fetchval("select count(*) from logs")
        while await connection.fetchval("select count(*) from logs") < 10 * stored:
            await self.end_to_end(self.rows * 4, 30)
        full = [await self.end_to_end(self.rows, 3) for _ in range(self.pairs)]
        await connection.close()
        self.say(f"(f) with 10 x the rows ({10 * stored:,}) / before", ratio(full, few), ".2f", 0.85)

    async def memory(self) -> None:
        """(e): what each process holds, and what a row costs on disk."""
        for role, mib in self.stack.memory_mib().items():
            self.say(f"(e) {role} MiB", Figure.of([mib]), ".0f")
        connection = await asyncpg.connect(self.stack.database_url)
        rows, size = await connection.fetchrow(
            "select (select count(*) from logs), (select sum(pg_total_relation_size(inhrelid)) from pg_inherits"
            " where inhparent = 'logs'::regclass)"
        )
        await connection.close()
        self.say("(e) bytes per row, indexes included", Figure.of([float(size) / rows]), ".0f")

    async def proof(self) -> None:
        """Nothing may be measured that broke the promise."""
        proof = await asyncio.to_thread(_get, f"{self.stack.url}/proof")
        verified = await verify(self.stack.database_url)
        assert proof["balanced"], proof["totals"]
        assert not verified.differences, verified.differences
        print(f"  proof: balanced, {verified.rows:,} rows verified against the ledger", flush=True)

    def say(self, name: str, figure: Figure, spec: str, target: float | None = None) -> None:
        """Print and keep one figure."""
        self.document[name] = {**figure.plain(), "target": target}
        verdict = (
            "" if target is None else ("  ok" if figure.median >= target else f"  BELOW {target:{spec}}")
        )
        print(f"  {name:<46}{figure:{spec}}{verdict}", flush=True)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.loads(answer.read())


async def measure(bench: Bench, parts: str) -> None:
    """The chosen parts in order."""
    base = 0.0
    if "b" in parts:
        await bench.ceilings()
        base = bench.document["(b) rows/s"]["median"]
    if "c" in parts:
        await bench.singles(2_500)
    if "d" in parts:
        await bench.latency(base or 60_000)
    if "f" in parts:
        await bench.scale(base)
    if "e" in parts:
        await bench.memory()
    await bench.proof()


def main() -> None:
    """Parse, run, keep."""
    parser = argparse.ArgumentParser(prog="tracehub bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and pairs: a look, not a figure")
    parser.add_argument("--only", default="bcdef", help="parts to run, as letters")
    parser.add_argument("--pairs", type=int, default=0, help="interleaved pairs (default 5)")
    options = parser.parse_args()
    rows, pairs = (30_000, 2) if options.quick else (120_000, 5)
    pairs = options.pairs or pairs
    about = machine()
    print(f"commit {about['commit']}, {about['cores']} cores, {about['cpu']}, Python {about['python']}")
    print(f"generator: {GENERATOR}")
    document: dict[str, Any] = {"machine": about, "generator": GENERATOR, "rows": rows, "figures": {}}
    print("two workers, as shipped")
    with stack(2) as running:
        bench = Bench(running, rows, pairs)
        uvloop.run(measure(bench, options.only))
        document["figures"] |= bench.document
    if "c" in options.only:
        print("one worker")
        with stack(1) as running:
            bench = Bench(running, rows, pairs)
            uvloop.run(_one_worker(bench))
            document["figures"] |= bench.document
    path = write(f"ingest-{time.strftime('%Y%m%d-%H%M%S')}", document)
    print(f"written to {path}")


async def _one_worker(bench: Bench) -> None:
    await bench.singles(3_500)
    await bench.proof()


if __name__ == "__main__":
    main()
