"""`make bench-query`: how fast logs are read at real size, beside ceilings of the same run.

python -m benchmarks.query [--rows 5000000] [--runs 40]

Five million rows over three months, two of them closed and indexed, 50 services, one tenant that owns 1 %. Each
question is asked with other values each time; p50 and p95 in ms, and the blocks that its plan touched.
Ceilings: a sequential scan of one closed month, and a look-up of one id by a unique index.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from benchmarks.figures import machine, write
from tracehub.pipeline.store import Moment, seen, store
from tracehub.protocol.filters import LogFilter, Position
from tracehub.protocol.ids import id_base
from tracehub.protocol.messages import Entry, Own, Request, StreamKey, entry_id
from tracehub.protocol.times import unix_ms
from tracehub.runtime.embedded import Postgres
from tracehub.storage.postgres.closed import index_closed
from tracehub.storage.postgres.connect import open_pool
from tracehub.storage.postgres.counting import LogCounts
from tracehub.storage.postgres.ledger import PostgresLedger
from tracehub.storage.postgres.migrate import migrate
from tracehub.storage.postgres.search import LogSearch
from tracehub.storage.redis.keys import ZERO_TENANT

SERVICES = 50
DAY_MS = 24 * 3600 * 1000
SPAN_MS = 90 * DAY_MS
SMALL_TENANT = str(uuid.UUID(int=1))
REQUEST_ROWS = 5_000
QUICK_RUNS, QUICK_MS = 200, 2_000
LEVELS = (("debug", 5, 20), ("info", 9, 60), ("warn", 13, 12), ("error", 17, 7), ("fatal", 21, 1))
WORDS = (
    "connection",
    "timeout",
    "user",
    "request",
    "cache",
    "payment",
    "session",
    "retry",
    "upstream",
    "query",
)
COMMON, RARE = "connection", "zanzibar"
RARE_EVERY = 100_000
LAST_MONTH = "select date_trunc('month', now(), 'UTC') - interval '1 month'"


@dataclass(frozen=True)
class Span:
    """So many rows, evenly from `begin_ms` on; from `closed_ms` to `month_ms` is the last closed month."""

    rows: int
    begin_ms: int
    closed_ms: int
    month_ms: int
    now_ms: int


def entries_of(span: Span, first: int, count: int, dice: random.Random) -> list[Entry]:
    """Ascending in time; what a request looks like in a log: words, ids, a status."""
    words = [level for level, _, share in LEVELS for _ in range(share)]
    number = {level: severity for level, severity, _ in LEVELS}
    made = []
    for n in range(first, first + count):
        level = words[dice.randrange(len(words))]
        word = WORDS[dice.randrange(len(WORDS))]
        tail = f" {RARE} {n}" if n % RARE_EVERY == 7 else ""
        trace = f"{n // 5:032x}"
        tenant = SMALL_TENANT if n % 100 == 3 else ZERO_TENANT
        made.append(
            Entry(
                n, span.begin_ms + n * SPAN_MS // span.rows, True, number[level], level,
                f"{word} {dice.randrange(10_000)} of {WORDS[n % 7]} took {dice.randrange(900)} ms, status "
                f"{200 + n % 5}{tail}",
                b'{"status":%d,"shop":"s%d"}' % (200 + n % 5, n % 1000),
                trace_id=trace, request_id=f"req-{n // 2}", host=f"host-{n % 20}",
                own=Own(tenant, f"service-{dice.randrange(SERVICES)}"),
            )
        )  # fmt: skip
    return made


async def fill(pool: asyncpg.Pool, span: Span) -> list[bytes]:
    """By the real path; some ids to look up."""
    rows = span.rows
    ledger = PostgresLedger(pool)
    stream = StreamKey(ZERO_TENANT, "@bench", 1)
    ids: list[bytes] = []
    dice = random.Random(7)
    started = time.monotonic()
    for first in range(1, rows + 1, REQUEST_ROWS):
        count = min(REQUEST_ROWS, rows + 1 - first)
        made = entries_of(span, first, count, dice)
        base = id_base(made[0].ts_ms, first.to_bytes(6, "big"))
        request = Request(stream, "bench", "", "", base, ((first, first + count - 1),), made)
        await store(ledger, [request], Moment(seen(), made[-1].ts_ms))
        ids.append(entry_id(base, dice.randrange(count)))
        if (first // REQUEST_ROWS) % 40 == 0:
            await ledger.fold_counts()
            print(f"\r{first:,} of {rows:,} rows, {time.monotonic() - started:.0f} s", end="", flush=True)
    await ledger.fold_counts()
    print(f"\r{rows:,} rows in {time.monotonic() - started:.0f} s            ")
    return ids


@dataclass
class Asked:
    """The queries of a pool, written down so that their plans can be looked at."""

    search: LogSearch
    last: list[tuple[str, list[Any]]] = field(default_factory=list)

    async def fetch(self, text: str, args: list[Any]) -> list[dict[str, Any]]:
        self.last.append((text, args))
        return await LogSearch.fetch(self.search, text, args)


Question = Callable[[random.Random], Awaitable[Any]]


async def measured(question: Question, runs: int) -> tuple[float, float]:
    """p50 and p95 in ms; the first two runs warm up. What is quick is asked QUICK_RUNS times: of a few times the 95th
    percentile is only the slowest but one."""
    dice = random.Random(11)
    took: list[float] = []
    while len(took) < runs + 2 or (len(took) < QUICK_RUNS and sum(took) < QUICK_MS):
        started = time.perf_counter()
        await question(dice)
        took.append((time.perf_counter() - started) * 1000)
    took = took[2:]
    return statistics.median(took), statistics.quantiles(took, n=20)[-1]


async def blocks(pool: asyncpg.Pool, queries: Sequence[tuple[str, list[Any]]]) -> str:
    """Blocks found in memory and read, of the plans of these queries together; and their kinds of scan."""
    hit = read = 0
    kinds: set[str] = set()

    def walk(plan: dict[str, Any]) -> None:
        if "Scan" in plan["Node Type"]:
            kinds.add(plan["Node Type"])
        for below in plan.get("Plans", ()):
            walk(below)

    for text, args in queries:
        rows = await pool.fetch(f"explain (analyze, buffers, format json) {text}", *args)
        plan = json.loads(rows[0][0])[0]["Plan"]
        hit += plan["Shared Hit Blocks"]
        read += plan["Shared Read Blocks"]
        walk(plan)
    return f"{hit:,} + {read:,} blocks, {', '.join(sorted(kinds))}"


async def run(rows: int, runs: int) -> dict[str, Any]:
    """Fill, index, ask."""
    document: dict[str, Any] = {"machine": machine(), "rows": rows, "runs": runs, "questions": {}}
    with ExitStack() as cleanup:
        home = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="tracehub-query-")))
        postgres = Postgres(home / "postgres")
        cleanup.callback(postgres.stop)
        postgres.start()
        await migrate(postgres.url)
        pool = open_pool(postgres.url, "bench-query")
        await pool
        now_ms = int(time.time() * 1000)
        month_ms = unix_ms(await pool.fetchval("select date_trunc('month', now(), 'UTC')"))
        closed_ms = unix_ms(await pool.fetchval(LAST_MONTH))
        span = Span(rows, now_ms - SPAN_MS, closed_ms, month_ms, now_ms)
        ids = await fill(pool, span)
        started = time.monotonic()
        made = await index_closed(pool, now_ms)
        print(f"{len(made)} indexes of closed months in {time.monotonic() - started:.0f} s")
        await pool.execute("vacuum analyze")
        await ask(pool, document, span, ids)
        await pool.close()
    return document


async def ask(pool: asyncpg.Pool, document: dict[str, Any], span: Span, ids: list[bytes]) -> None:
    """Every question beside the ceilings."""
    rows, begin_ms, closed_ms, month_ms, now_ms = astuple(span)
    asked = Asked(LogSearch(pool))
    asked.search.fetch = asked.fetch  # type: ignore[method-assign]
    search, counts = asked.search, LogCounts(asked.fetch)
    closed = {"start_ms": closed_ms, "end_ms": month_ms - 1}

    def service(dice: random.Random) -> str:
        return f"service-{dice.randrange(SERVICES)}"

    def newest(tenant_id: str, make: Callable[[random.Random], LogFilter]) -> Question:
        return lambda dice: search.page(tenant_id, make(dice), limit=101)

    async def deep(dice: random.Random) -> None:
        ts_ms = begin_ms + dice.randrange(now_ms - begin_ms)
        await search.page(ZERO_TENANT, LogFilter(), limit=101, after=Position(ts_ms, dice.randbytes(16)))

    async def total(_: random.Random) -> None:
        await counts.total(ZERO_TENANT, LogFilter(**closed))

    async def page_with_total(_: random.Random) -> None:
        await search.page(ZERO_TENANT, LogFilter(), limit=101)
        await counts.total(ZERO_TENANT, LogFilter())

    async def stats(_: random.Random) -> None:
        await counts.by_service(ZERO_TENANT, LogFilter(start_ms=closed_ms + 1, end_ms=month_ms - 2))

    month = LogFilter(start_ms=closed_ms + 1, end_ms=month_ms - 2)

    async def hourly(_: random.Random) -> None:
        await counts.by_time(ZERO_TENANT, month, "hour")

    async def hourly_by_service(_: random.Random) -> None:
        await counts.by_time(ZERO_TENANT, month, "hour", "service")

    async def daily_by_service(_: random.Random) -> None:
        await counts.by_time(ZERO_TENANT, month, "day", "service")

    def trace(dice: random.Random) -> LogFilter:
        return LogFilter(exact=(("trace_id", (f"{dice.randrange(rows // 5):032x}",)),))

    questions: dict[str, Question] = {
        "newest 100": newest(ZERO_TENANT, lambda _: LogFilter()),
        "newest 100 and their total": page_with_total,
        "newest 100 of the tenant with 1 %": newest(SMALL_TENANT, lambda _: LogFilter()),
        "service, level, a day": newest(
            ZERO_TENANT,
            lambda dice: LogFilter(
                exact=(("service", (service(dice),)),), severities=((17, 24),),
                start_ms=now_ms - 2 * DAY_MS, end_ms=now_ms - DAY_MS,
            ),
        ),
        "service, level, a closed month": newest(
            ZERO_TENANT,
            lambda dice: LogFilter(exact=(("service", (service(dice),)),), severities=((17, 24),), **closed),
        ),
        "a trace": newest(ZERO_TENANT, trace),
        "a request": newest(
            ZERO_TENANT, lambda dice: LogFilter(exact=(("request_id", (f"req-{dice.randrange(rows // 2)}",)),))
        ),
        "an entry by its id": lambda dice: search.entry(ZERO_TENANT, uuid.UUID(bytes=dice.choice(ids))),
        "a page far behind, by cursor": deep,
        "a rare word in a closed month": newest(ZERO_TENANT, lambda _: LogFilter(search=RARE, **closed)),
        "a common word in a closed month": newest(ZERO_TENANT, lambda _: LogFilter(search=COMMON, **closed)),
        "a common word, all times": newest(ZERO_TENANT, lambda _: LogFilter(search=COMMON)),
        "a rare word, all times": newest(ZERO_TENANT, lambda _: LogFilter(search=RARE)),
        "metadata in a closed month": newest(
            ZERO_TENANT,
            lambda dice: LogFilter(metadata=(("shop", (f'"s{dice.randrange(1000)}"',)),), **closed),
        ),
        "total of a month": total,
        "statistics of a month": stats,
        "hours of a month": hourly,
        "days of a month by 50 services": daily_by_service,
        "hours of a month by 50 services": hourly_by_service,
    }  # fmt: skip
    partition = await pool.fetchval(
        "select 'logs_' || to_char(to_timestamp($1), 'YYYY_MM')", closed_ms / 1000
    )

    async def scan(dice: random.Random) -> None:
        async with pool.acquire() as connection, connection.transaction():
            for what in ("indexscan", "bitmapscan", "indexonlyscan"):
                await connection.execute(f"set local enable_{what} = off")
            await connection.execute("set local max_parallel_workers_per_gather = 0")
            word = f"%{RARE}{dice.randrange(10)}%"
            await connection.fetchval(f"select count(*) from {partition} where message ilike $1", word)

    async def look_up(dice: random.Random) -> None:
        query = "select id from entry_ids where tenant_id = $1 and id = $2"
        await pool.fetchval(query, uuid.UUID(ZERO_TENANT), uuid.UUID(bytes=dice.choice(ids)))

    await pool.execute(
        "insert into entry_ids select $1, unnest($2::uuid[]), now()", uuid.UUID(ZERO_TENANT),
        [uuid.UUID(bytes=i) for i in ids],
    )  # fmt: skip
    ceilings: dict[str, tuple[Question, int]] = {
        "ceiling: scan of a closed month": (scan, 5), "ceiling: one id by a unique index": (look_up, 40),
    }  # fmt: skip
    for name, (question, runs) in ceilings.items():
        p50, p95 = await measured(question, runs)
        document["questions"][name] = {"p50_ms": p50, "p95_ms": p95}
        print(f"{name:40s} p50 {p50:9.2f}  p95 {p95:9.2f} ms")
    for name, question in questions.items():
        p50, p95 = await measured(question, document["runs"])
        asked.last.clear()
        await question(random.Random(5))
        touched = await blocks(pool, asked.last[:])
        document["questions"][name] = {"p50_ms": p50, "p95_ms": p95, "plan": touched}
        print(f"{name:40s} p50 {p50:9.2f}  p95 {p95:9.2f} ms   {touched}", flush=True)
    found = document["questions"]
    times_faster = (
        found["ceiling: scan of a closed month"]["p50_ms"] / found["a rare word in a closed month"]["p50_ms"]
    )
    document["scan / trigram"] = times_faster
    print(f"a rare word through its index is {times_faster:.0f} times as fast as the scan")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="make bench-query", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        document = runner.run(run(options.rows, options.runs))
    path = write(f"query-{time.strftime('%Y%m%d-%H%M%S')}", document)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
