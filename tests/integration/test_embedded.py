"""The embedded servers are real, private, and end when they should."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from tests.eventually import eventually_sync
from tracehub.runtime.embedded import EmbeddedError, Postgres, Stores, Valkey
from tracehub.runtime.embedded.ports import END_PORT_MAX, FIRST_PORT, free_port, kept_port

PARENT = """
import sys, time
from pathlib import Path
from tracehub.runtime.embedded import Postgres, Valkey
home = Path(sys.argv[1])
postgres, valkey = Postgres(home / "postgres", durable=False), Valkey(home / "buffers", durable=True)
postgres.start(); valkey.start()
print(postgres.pid, valkey.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


async def test_postgres_sorts_text_by_bytes(stores: Stores) -> None:
    """Order must be the same on every machine, whatever its language."""
    connection = await asyncpg.connect(stores.postgres.url)
    rows = await connection.fetch("SELECT x FROM unnest(ARRAY['ä','b','B','a']) AS t(x) ORDER BY x")
    assert [row["x"] for row in rows] == ["B", "a", "b", "ä"]
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    assert await connection.fetchval("SHOW timezone") == "UTC"
    await connection.close()


async def test_postgres_refuses_wrong_password(stores: Stores) -> None:
    """Another user of the machine must not read the database over loopback."""
    wrong = stores.postgres.url.replace("postgres:", "postgres:x", 1)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


def test_valkey_refuses_without_password(stores: Stores) -> None:
    port = int(stores.queue.url.rsplit(":", 1)[1].split("/")[0])
    with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_servers_listen_on_loopback_only(stores: Stores) -> None:
    for pid in (stores.postgres.pid, stores.queue.pid, stores.buffers.pid):
        listening = [c for c in psutil.Process(pid).net_connections("inet") if c.status == "LISTEN"]
        assert listening
        assert {c.laddr.ip for c in listening} == {"127.0.0.1"}


def test_passwords_stay_out_of_process_list(stores: Stores) -> None:
    for server in (stores.postgres, stores.queue, stores.buffers):
        password = server.url.split("@")[0].rsplit(":", 1)[1]
        assert password not in " ".join(psutil.Process(server.pid).cmdline())


def test_buffers_fsync_every_write_and_nothing_is_evicted(stores: Stores) -> None:
    with redis.Redis.from_url(stores.buffers.url) as client:
        assert client.config_get("append*")["appendfsync"] == "always"
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with redis.Redis.from_url(stores.queue.url) as client:
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


async def test_committed_rows_survive_kill_of_postgres(home: Path) -> None:
    """A stale postmaster.pid is no obstacle, and the address stays."""
    server = Postgres(home / "postgres", durable=False)
    try:
        url = server.start()
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE t AS SELECT 42 AS x")
        os.kill(server.child.pid, signal.SIGKILL)
        server.child.wait(10)
        assert server.pid is None
        assert server.start() == url
        connection.terminate()
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT x FROM t") == 42
        await connection.close()
    finally:
        server.stop()


def test_acknowledged_writes_survive_kill_of_buffers(home: Path) -> None:
    server = Valkey(home / "buffers", durable=True)
    try:
        url = server.start()
        with redis.Redis.from_url(url) as client:
            client.set("a", "1")
            os.kill(server.child.pid, signal.SIGKILL)
            server.child.wait(10)
            assert server.start() == url
            assert client.get("a") == b"1"
    finally:
        server.stop()


def test_port_is_never_changed_under_clients(home: Path) -> None:
    """Who took the port meanwhile is an error to be tried again, not a reason to move."""
    server = Valkey(home / "queue", durable=False)
    try:
        url = server.start()
        server.stop()
        with socket.socket() as thief:
            thief.bind(("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0])))
            thief.listen()
            with pytest.raises(EmbeddedError, match="Address already in use"):
                server.start()
        assert server.start() == url
    finally:
        server.stop()


def test_next_run_finds_data_password_and_port(home: Path) -> None:
    first = Postgres(home / "postgres", durable=False)
    url = first.start()
    first.stop()
    first.stop()
    second = Postgres(home / "postgres", durable=False)
    try:
        assert second.start() == url
    finally:
        second.stop()


def test_second_server_on_same_folder_is_refused(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracehub.runtime.embedded.lease.LEASE_WAIT_S", 0.1)
    with pytest.raises(EmbeddedError, match="another server is using"):
        Postgres(stores.postgres.log.parent, durable=False).start()


def test_servers_die_with_their_parent(home: Path) -> None:
    """Killed with -9, the parent can do nothing: the kernel ends its children, and they theirs."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(home)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        family = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    family += [child for server in family for child in server.children(recursive=True)]
    assert len(family) > 4
    parent.kill()
    parent.wait()
    eventually_sync(lambda: not any(_alive(process) for process in family), 5)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_ports_lie_below_outgoing_range(tmp_path: Path) -> None:
    """Else a client that reconnects to a server that is down may be given the server's port, and keep it."""
    assert all(FIRST_PORT <= free_port() < END_PORT_MAX for _ in range(20))
    note = tmp_path / "port"
    port = kept_port(note)
    assert kept_port(note) == port


def test_failure_shows_end_of_log(home: Path) -> None:
    server = Postgres(home / "postgres", durable=False)
    server.start()
    server.stop()
    (home / "postgres" / "data" / "local.conf").write_text("shared_buffers = 'nonsense'\n")
    with pytest.raises(EmbeddedError, match="nonsense"):
        server.start()
