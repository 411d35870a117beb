"""The pieces of `up` that need no server: options, environment, logs, supervision of a single process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest

from apps.up.options import RefusedError, check_listening, child_environment, options_from, simulated_service
from apps.up.part import BACKOFF_S, Part, Plan
from apps.up.part_log import SHOWN_PER_MINUTE_MAX, PartLog
from apps.up.terminal import Terminal
from tests.eventually import eventually, eventually_sync
from tracehub.runtime.process import spawn
from tracehub.runtime.settings import Settings

STORES = {"TRACEHUB_DATABASE_URL": "postgresql://ours/x"}


def test_flags_win_over_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEHUB_WORKERS", "7")
    options = options_from(Settings(), {"port": 4000, "workers": None, "sim": 0})
    assert (options.port, options.workers, options.simulators) == (4000, 7, 0)


def test_stray_variables_never_reach_children(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "POSTGRES_HOST", "DB_HOST", "REDIS_URL", "REDIS_PASSWORD", "PGPASSWORD"):
        monkeypatch.setenv(name, "stray")
    monkeypatch.setenv("SMTP_HOST", "mail")
    monkeypatch.setenv("DB_MAX_OPEN_CONNS", "9")
    options = options_from(Settings(), {})
    assert options.database_url == options.redis_url == ""
    environment = child_environment(options, STORES)
    assert "stray" not in environment.values()
    assert environment["SMTP_HOST"] == "mail"
    assert environment["DB_MAX_OPEN_CONNS"] == "9"
    assert environment["TRACEHUB_DATABASE_URL"] == "postgresql://ours/x"


def test_faults_are_on_unless_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert child_environment(options_from(Settings(), {}), STORES)["TRACEHUB_FAULTS"] == "1"
    monkeypatch.setenv("TRACEHUB_FAULTS", "0")
    assert child_environment(options_from(Settings(), {}), STORES)["TRACEHUB_FAULTS"] == "0"


def test_open_server_stays_on_loopback() -> None:
    with pytest.raises(RefusedError, match="TRACEHUB_INSECURE"):
        check_listening(options_from(Settings(), {"host": "0.0.0.0", "port": 0}))
    check_listening(options_from(Settings(), {"host": "localhost", "port": 0}))
    check_listening(options_from(Settings(), {"host": "0.0.0.0", "port": 0, "insecure": True}))


def test_ports_that_are_taken_are_refused_before_any_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(RefusedError, match=f"--port {taken}: Address already in use"):
            check_listening(options_from(Settings(), {"port": taken}))
        with pytest.raises(RefusedError, match=f"OBS_PORT {taken}"):
            check_listening(options_from(Settings(obs_port=taken), {"port": 0}))


@pytest.mark.parametrize(
    ("names", "is_refused"),
    [(["READ"], True), (["WRITE"], True), (["READ", "WRITE"], False), (["ADMIN"], False)],
)
def test_keys_let_it_listen_anywhere(
    monkeypatch: pytest.MonkeyPatch, names: list[str], is_refused: bool
) -> None:
    for name in names:
        monkeypatch.setenv(f"TRACEHUB_{name}_KEY", name)
    options = options_from(Settings(), {"host": "0.0.0.0", "port": 0})
    if not is_refused:
        check_listening(options)
        return
    with pytest.raises(RefusedError, match="TRACEHUB_WRITE_KEY"):
        check_listening(options)


def test_simulators_have_names() -> None:
    names = [simulated_service(index) for index in range(5)]
    assert names == ["auth-svc", "payment-svc", "notif-svc", "sim-4", "sim-5"]


def written_by(code: str, log: PartLog) -> None:
    child = spawn([sys.executable, "-c", code], env={}, output=subprocess.PIPE)
    log.follow(child)
    child.wait(10)


def test_terminal_shows_warnings_only(tmp_path: Path) -> None:
    screen = StringIO()
    log = PartLog(tmp_path / "worker-1.log", Terminal(screen))
    lines = [
        '{"level":"info","event":"fine","at":"2026-01-01T00:00:00Z"}',
        '{"level":"warning","event":"hm\\u001b[2J","rows":3,"at":"2026-01-01T00:00:00Z"}',
        "no JSON at all",
        '{"level":"error"',
    ]
    written_by(f"print({chr(10).join(lines)!r})", log)
    eventually_sync(lambda: len(log.tail()) == 4)
    eventually_sync(lambda: "hm" in screen.getvalue())
    assert "fine" not in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
    assert (tmp_path / "worker-1.log").read_text().splitlines() == lines


def test_flood_of_warnings_is_cut_on_the_terminal(tmp_path: Path) -> None:
    screen = StringIO()
    log = PartLog(tmp_path / "a.log", Terminal(screen))
    line = '{"level":"error","event":"again","at":"2026-01-01T00:00:00Z"}'
    written_by(f"for _ in range(100): print({line!r})", log)
    eventually_sync(lambda: "many more lines like this" in screen.getvalue())
    assert screen.getvalue().count("again") == SHOWN_PER_MINUTE_MAX - 1


def test_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.up.part_log.FILE_BYTES_MAX", 1_000)
    log = PartLog(tmp_path / "a.log", Terminal(StringIO()))
    written_by("for i in range(500): print('x' * 99)", log)
    eventually_sync(lambda: len(log.tail()) == 12)

    def size() -> int:
        with contextlib.suppress(FileNotFoundError):  # one is renamed just now
            return sum(path.stat().st_size for path in tmp_path.iterdir())
        return sys.maxsize

    eventually_sync(lambda: size() <= 2_300)


@dataclass
class Witness:
    """Hears what becomes of a part."""

    starts: int = 0
    deaths: list[tuple[int | None, float]] = field(default_factory=list)

    def started(self, part: Part) -> None:
        self.starts += 1

    def died(self, part: Part, status: int | None, pause_s: float) -> None:
        self.deaths.append((status, pause_s))


@pytest.fixture
async def threads() -> AsyncIterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def part_of(
    command: list[str], threads: ThreadPoolExecutor, restart_s: float | None = None
) -> tuple[Part, Witness]:
    witness = Witness()
    plan = Plan("x", "worker", lambda: spawn(command, env={}), ((signal.SIGTERM, 5.0),), restart_s=restart_s)
    return Part(plan, threads, witness, asyncio.Event()), witness


async def test_death_is_told_and_made_good(threads: ThreadPoolExecutor) -> None:
    part, witness = part_of(["/bin/sh", "-c", "exit 3"], threads)
    await part.start()
    await eventually(lambda: witness.starts >= 3)
    await part.stop()
    assert witness.deaths[0] == (3, BACKOFF_S[0])
    assert witness.deaths[1] == (3, BACKOFF_S[1])
    assert part.pid is None


async def test_stop_ends_process_and_supervision(threads: ThreadPoolExecutor) -> None:
    part, witness = part_of(["/bin/sleep", "60"], threads)
    await part.start()
    assert part.pid is not None
    await part.stop()
    await part.stop()
    assert part.pid is None
    assert witness.deaths == []


async def test_stop_does_not_wait_for_next_start(threads: ThreadPoolExecutor) -> None:
    part, witness = part_of(["/bin/sh", "-c", "exit 1"], threads, restart_s=60)
    await part.start()
    await eventually(lambda: witness.deaths)
    async with asyncio.timeout(2):
        await part.stop()


async def test_first_start_that_fails_is_raised(threads: ThreadPoolExecutor) -> None:
    def start() -> subprocess.Popen[bytes]:
        raise OSError("no such thing")

    witness = Witness()
    part = Part(Plan("x", "backend", start, ()), threads, witness, asyncio.Event())
    with pytest.raises(OSError, match="no such thing"):
        await part.start()
    await part.stop()
    assert witness.deaths == []
