"""`tracehub up` as a whole: real processes, killed and stopped on purpose."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import redis

from tests.eventually import eventually_sync
from tracehub.storage.redis import keys

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S = 60.0, 60.0
UP = [sys.executable, "-m", "apps.cli", "up"]


def up_environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "sdks" / "python"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@dataclass
class Run:
    """One running `tracehub up`."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    output: Path

    def state(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            return json.loads((self.data_dir / "run.json").read_text())
        return {}

    def pids(self) -> dict[str, Any]:
        return self.state().get("pids", {})

    def text(self) -> str:
        return self.output.read_text()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.text()
        return "is running at" in self.text()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ask(self, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            self.state()["http"] + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=15) as answer:
            return json.load(answer)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


class Runs:
    """Starts `up`; whatever a test leaves running is ended with it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.all: list[Run] = []

    def begin(self, *flags: str, env: dict[str, str] | None = None) -> Run:
        output = self.data_dir.with_name(f"up-{len(self.all)}.txt")
        command = [*UP, "--data-dir", str(self.data_dir), "--port", "0", *flags]
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env={**up_environment(), **(env or {})}
            )
        run = Run(process, self.data_dir, output)
        self.all.append(run)
        return run

    def start(self, *flags: str, env: dict[str, str] | None = None) -> Run:
        run = self.begin(*flags, env=env)
        eventually_sync(run.is_ready, START_S)
        return run


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    starter = Runs(tmp_path / "data")
    yield starter
    for run in starter.all:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait(10)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_gone(family: list[psutil.Process]) -> bool:
    assert [process for process in family if is_alive(process)] == []
    return True


def test_starts_stops_and_goes_on(runs: Runs) -> None:
    """The way of a first user: start, look, Ctrl-C, start again, all is still there."""
    run = runs.start()
    state = run.state()
    assert stat.S_IMODE((run.data_dir / "run.json").stat().st_mode) == 0o600
    assert run.ask("/health")["status"] == "ok"
    assert len(state["pids"]["workers"]) == 2
    assert len(state["pids"]["simulators"]) == 3
    assert state["http"] in run.text()
    batch = [{"seq": seq, "level": "info", "message": f"number {seq}"} for seq in (1, 2, 3)]
    assert run.ask("/ingest", {"service": "mine", "batch": batch})["ackTill"] == 3

    def simulators_are_heard() -> bool:
        told = {row["service"]: row["ackTill"] for row in run.ask("/services")}
        return all(told.get(name, 0) > 0 for name in ("auth-svc", "payment-svc", "notif-svc"))

    eventually_sync(simulators_are_heard, 20)
    family = run.family()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(STOP_S) == 0, run.text()
    all_gone(family)
    assert not (run.data_dir / "run.json").exists()

    again = runs.start("--sim", "0")
    assert again.ask("/ack/mine?epoch=0")["ackTill"] == 3
    for name in ("database_url", "redis_url", "buffer_redis_url"):
        assert port_of(again.state()[name]) == port_of(state[name])
    assert again.stop() == 0, again.text()


def port_of(url: str) -> str:
    return url.rpartition("@")[2].partition("/")[0]


def test_kill_of_parent_leaves_no_process(runs: Runs) -> None:
    """`kill -9` of `up`: nobody can clean up, so everybody ends by himself; the next start recovers."""
    run = runs.start("--sim", "1")
    assert run.ask("/ingest", {"service": "mine", "batch": [{"seq": 1, "message": "x"}]})["ackTill"] == 1
    family = run.family()
    assert len(family) > 6
    run.process.kill()
    run.process.wait(10)
    eventually_sync(lambda: all_gone(family), 10)
    again = runs.start("--sim", "0")
    assert again.ask("/ack/mine?epoch=0")["ackTill"] == 1


def test_second_up_on_same_data_is_refused(runs: Runs) -> None:
    runs.start("--sim", "0", "--workers", "1")
    second = runs.begin()
    assert second.process.wait(30) == 2
    assert "already runs on" in second.text()


def test_taken_port_is_refused_before_anything_starts(runs: Runs) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = runs.begin("--port", str(taken.getsockname()[1]))
        assert run.process.wait(30) == 2
    assert "Address already in use" in run.text()
    assert not (run.data_dir / "postgres").exists()


def test_open_server_is_refused_beyond_loopback(runs: Runs) -> None:
    run = runs.begin("--host", "0.0.0.0")
    assert run.process.wait(30) == 2
    assert "TRACEHUB_INSECURE" in run.text()


def test_stray_variables_lead_to_no_other_store(runs: Runs) -> None:
    """Only flags and TRACEHUB_… name stores: somebody's DATABASE_URL must not be migrated."""
    stray = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/theirs",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "POSTGRES_HOST": "127.0.0.1",
        "PGPORT": "1",
    }
    run = runs.start("--sim", "0", "--workers", "1", env=stray)
    assert run.ask("/health")["status"] == "ok"


def test_given_store_is_used_and_not_embedded(runs: Runs, empty_database: str, redis_url: str) -> None:
    run = runs.start(
        "--sim",
        "0",
        "--workers",
        "1",
        "--database-url",
        empty_database,
        env={"TRACEHUB_REDIS_URL": redis_url},
    )
    pids = run.pids()
    assert (pids["postgres"], pids["redis"]) == (None, None)
    assert psutil.pid_exists(pids["buffer_redis"])
    assert run.state()["database_url"] == empty_database
    assert run.stop() == 0


def test_killed_worker_is_announced_and_comes_back(runs: Runs) -> None:
    """Everybody hears of the crash at once and of the recovery; run.json stays true."""
    run = runs.start("--sim", "0", env={"TRACEHUB_WORKER_RESTART_MS": "1000"})
    before = run.pids()["workers"]
    with redis.Redis.from_url(run.state()["redis_url"]) as client, client.pubsub() as ears:
        ears.subscribe(keys.LIVE_CHANNEL)
        heard: dict[str, dict[str, Any]] = {}

        def listen() -> bool:
            message = ears.get_message(timeout=0.1)
            if message and message["type"] == "message":
                event = msgspec.msgpack.decode(message["data"])
                if str(event["event"]).startswith("worker:"):
                    heard.setdefault(event["event"], event["data"])
            return {"worker:crashed", "worker:recovered"} <= heard.keys()

        eventually_sync(lambda: client.get(keys.heartbeat("worker-1")), 10)
        eventually_sync(lambda: client.pubsub_numsub(keys.LIVE_CHANNEL)[0][1] > 0, 5)
        victim = worker_pid(run, "worker-1")
        os.kill(victim, signal.SIGKILL)
        eventually_sync(lambda: victim not in run.pids()["workers"], 5)
        eventually_sync(listen, 30)
    assert heard["worker:crashed"]["worker"] == "worker-1"
    assert heard["worker:crashed"]["recoversInMs"] == 1000
    assert heard["worker:recovered"]["downMs"] >= 1000
    after = eventually_sync(lambda: run.pids()["workers"] if len(run.pids()["workers"]) == 2 else None, 10)
    assert len(set(before) & set(after)) == 1
    assert all(psutil.pid_exists(pid) for pid in after)


def worker_pid(run: Run, name: str) -> int:
    """The process that was started under this name."""
    for pid in run.pids()["workers"]:
        if psutil.Process(pid).environ().get("TRACEHUB_WORKER_ID") == name:
            return int(pid)
    raise AssertionError(f"no process is {name}")


@pytest.mark.parametrize("role", ["backend", "postgres", "redis", "buffer_redis"])
def test_killed_part_comes_back_at_its_place(runs: Runs, role: str) -> None:
    """Same address after `kill -9`, and the whole is well again without anybody's help."""
    run = runs.start("--sim", "0", "--workers", "1")
    state = run.state()
    victim = state["pids"][role]
    os.kill(victim, signal.SIGKILL)

    def well_again() -> bool:
        now = run.state()
        assert now["pids"][role] not in (None, victim)
        assert {**now, "pids": None} == {**state, "pids": None}
        with contextlib.suppress(OSError, ValueError):
            answer = run.ask("/ingest", {"service": role, "batch": [{"seq": 1, "message": "x"}]})
            return answer["ackTill"] == 1
        return False

    eventually_sync(well_again, 60)


def test_second_signal_hastens(runs: Runs) -> None:
    """A worker that does not listen is not waited for when the person is in a hurry."""
    run = runs.start("--sim", "0", "--workers", "1")
    os.kill(run.pids()["workers"][0], signal.SIGSTOP)
    run.process.send_signal(signal.SIGINT)
    eventually_sync(lambda: "Stopping" in run.text(), 5)
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(10) == 0


def test_unready_whole_ends_with_a_hint(runs: Runs, tmp_path: Path) -> None:
    """A backend that cannot start is named, with its log; nothing keeps running."""
    (tmp_path / "httptools.py").write_text("raise ImportError('a damaged installation')")
    run = runs.begin("--sim", "0", env={"PYTHONPATH": str(tmp_path)})
    assert run.process.wait(START_S) == 1
    assert "backend.log" in run.text() or "worker" in run.text()
