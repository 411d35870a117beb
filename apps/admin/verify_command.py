"""`tracehub verify`: the proof, row by row (ingest.md §9). Exit 0 when everything balances, 1 when not."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tracehub.pipeline.proof import prove, together
from tracehub.protocol.errors import TraceHubError
from tracehub.protocol.tenants import DEFAULT_TENANT
from tracehub.runtime.settings import Settings
from tracehub.storage.postgres.connect import open_pool
from tracehub.storage.postgres.reading import LedgerReading
from tracehub.storage.postgres.verify import Verified, verify
from tracehub.storage.redis.buffers import RedisBuffers
from tracehub.storage.redis.connect import open_redis
from tracehub.storage.redis.queue import RedisQueue


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the stores are."""

    database: str
    redis: str
    buffers: str


def addresses(settings: Settings) -> Addresses:
    """What a running `up` wrote into run.json, else the settings."""
    try:
        run = json.loads((Path(settings.data_dir) / "run.json").read_text())
        return Addresses(run["database_url"], run["redis_url"], run["buffer_redis_url"])
    except (OSError, ValueError, KeyError, TypeError):
        return Addresses(settings.database(), settings.redis(), settings.buffer_redis())


def run_verify(settings: Settings, *, repair: bool, as_json: bool = False) -> int:
    """Check ledger, rows and buffers against each other; the exit status."""
    console = Console(stderr=True)
    at = addresses(settings)
    try:
        with console.status("looking at the rows") as status:
            verified = asyncio.run(
                verify(
                    at.database,
                    repair=repair,
                    progress=lambda name, place, count: status.update(f"{name} ({place} of {count})"),
                )
            )
            proof = asyncio.run(_proof(at))
    except TraceHubError as error:
        print(f"cannot verify: {error.message}", file=sys.stderr)
        return 1
    clean = not verified.differences and (proof is None or proof["balanced"])
    if as_json:
        print(json.dumps(_document(verified, proof, clean)))
    else:
        _show(verified, proof, clean)
    return 0 if clean or (repair and verified.repaired and proof and proof["balanced"]) else 1


async def _proof(at: Addresses) -> dict[str, Any] | None:
    """The proof of all tenants, or None while the queue cannot be asked."""
    pool = open_pool(at.database, "tracehub-verify")
    redis, buffers = open_redis(at.redis), open_redis(at.buffers)
    try:
        async with pool:
            reading, queue = LedgerReading(pool), RedisQueue(redis)
            return together(
                {
                    tenant_id: await prove(reading, RedisBuffers(buffers), queue, tenant_id=tenant_id)
                    for tenant_id in sorted({DEFAULT_TENANT, *await reading.tenants()})
                }
            )
    except TraceHubError:
        return None
    finally:
        await redis.aclose()
        await buffers.aclose()


def _document(verified: Verified, proof: dict[str, Any] | None, clean: bool) -> dict[str, Any]:
    return {
        "clean": clean,
        "streams": verified.streams,
        "rows": verified.rows,
        "differences": verified.differences,
        "repaired": verified.repaired,
        "proof": proof,
    }


def _show(verified: Verified, proof: dict[str, Any] | None, clean: bool) -> None:
    console = Console()
    console.print(f"{verified.rows:,} rows of {verified.streams:,} streams looked at.", highlight=False)
    if verified.differences:
        table = Table("service", "epoch", "rows", "copies", "rows unknown", "without row", "lost unsigned")
        for d in verified.differences:
            names = (
                "rows",
                "copies",
                "rows_unknown_to_ledger",
                "received_without_row",
                "lost_without_signature",
            )
            table.add_row(str(d["service"]), str(d["epoch"]), *(f"{d[name]:,}" for name in names))
        console.print(table)
    if verified.repaired:
        console.print(f"The ledger of {verified.repaired} streams was rebuilt from the rows.")
    if proof is None:
        console.print("The queue cannot be asked, so only rows and ledger were compared.")
    else:
        t = proof["totals"]
        console.print(
            f"produced {t['produced']:,} = stored {t['stored']:,} + in buffer {t['buffered']:,} "
            f"+ lost {t['lost']:,}" + (f" + unaccounted {t['unaccounted']:,}" if t["unaccounted"] else ""),
            highlight=False,
        )
    console.print("Everything balances." if clean else "It does not balance.")
