"""Real log files, shipped through a whole TraceHub and read back line for line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.e2e.stack import Stack, verify

LOGS = Path(__file__).parents[3] / "shared" / "data" / "logs"
FILES = ("apache", "hdfs", "openssh", "openstack")

pytestmark = pytest.mark.skipif(
    not LOGS.is_dir(), reason="the real logs lie beside the repository, in ../shared/data"
)


def ship(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`tracehub ship …` against the stack's data folder."""
    command = [sys.executable, "-P", "-m", "apps.cli", "ship", *arguments, "--data-dir", str(stack.data_dir)]
    return subprocess.run(
        command, env=stack.environment(), capture_output=True, text=True, timeout=120, check=False
    )


async def lines_of(stack: Stack, service: str) -> list[tuple[int, str]]:
    """What Postgres holds of a service, in the order of its numbers."""
    connection = await asyncpg.connect(stack.database_url, ssl=False)
    try:
        rows = await connection.fetch(
            "select seq, message from logs where service = $1 order by stream_id, seq", service
        )
    finally:
        await connection.close()
    return [(row["seq"], row["message"]) for row in rows]


def expected(name: str) -> list[tuple[int, str]]:
    """The lines of a file with their numbers."""
    text = (LOGS / f"{name}.log").read_text(encoding="utf-8")
    return list(enumerate(text.removesuffix("\n").split("\n"), 1))


@pytest.mark.timeout(240)
async def test_real_logs_come_back_line_for_line(stack: Stack) -> None:
    """All four files, each twice: the second time there is nothing to do."""
    for name in FILES:
        for _ in range(2):
            done = ship(stack, str(LOGS / f"{name}.log"), "--service", name)
            assert done.returncode == 0, done.stderr
        assert await lines_of(stack, name) == expected(name), name
    status, document = verify(stack)
    assert (status, document["clean"]) == (0, True)
    assert document["proof"]["totals"]["lost"] == 0
    assert document["rows"] == sum(len(expected(name)) for name in FILES)
