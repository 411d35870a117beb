"""Real backends and workers for tests: processes as an operator starts them, on ports of their own.

`server` is one backend and one worker with faults allowed, shared by all tests of a pytest process: they keep
apart by the names of their services. A test that needs other settings, or kills something, takes `deploy`
and starts its own. When a test fails, the ends of the logs of what it spoke to are shown.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import asyncpg
import httpx
import pytest
import redis

from tests.conftest import Databases
from tests.eventually import eventually_sync
from tests.integration.asking import BODY_TIMEOUT_S, batch
from tests.integration.keyed import KEYS, READ, SECRET, WRITE, speaking
from tracehub.runtime import process
from tracehub.runtime.embedded import Valkey
from tracehub.runtime.embedded.ports import free_port
from tracehub.storage.redis import keys

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
STOP_STEPS = ((signal.SIGTERM, 4.0),)
LOG_TAIL_BYTES = 6_000

Settings = Mapping[str, object]


@dataclass
class Part:
    """One process of a deployment. `url` is empty for workers."""

    name: str
    child: Popen[bytes]
    log: Path
    url: str = ""
    worker_id: str = ""

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def tail(self) -> str:
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def is_running(self) -> bool:
        return self.child.poll() is None

    def must_run(self) -> None:
        """RuntimeError, not AssertionError: what has ended will not become well by waiting."""
        if not self.is_running():
            raise RuntimeError(f"{self.name} ended by itself:\n{self.tail()}")

    def stop(self) -> None:
        process.stop(self.child, STOP_STEPS)


@dataclass
class Deployment:
    """Backends and workers over one database and one queue; `main` is the first backend."""

    home: Path
    database: str
    queue_url: str
    buffers_url: str
    settings: dict[str, object] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    @property
    def main(self) -> Part:
        return next(part for part in self.parts if part.url)

    @property
    def url(self) -> str:
        return self.main.url

    def begin_backend(self, **settings: object) -> Part:
        """Start a backend; do not wait until it is well."""
        port = settings.pop("port", None) or free_port()
        return self._start("apps.backend", {"port": port, **settings}, f"http://127.0.0.1:{port}")

    def backend(self, **settings: object) -> Part:
        """Start a backend and wait until it is well."""
        part = self.begin_backend(**settings)
        self._until_well(part)
        return part

    @staticmethod
    def _until_well(part: Part) -> None:
        def is_well() -> bool:
            part.must_run()
            try:
                return httpx.get(part.url + "/health", trust_env=False, timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        eventually_sync(is_well, START_S)

    def worker(self, **settings: object) -> Part:
        """Start a worker and wait for its first heartbeat."""
        part = self.begin_worker(**settings)
        self._until_beating(part)
        return part

    def begin_worker(self, **settings: object) -> Part:
        """Start a worker; do not wait until it works."""
        worker_id = str(settings.pop("worker_id", "") or f"w{len(self.parts)}-{uuid.uuid4().hex[:6]}")
        part = self._start("apps.worker", {"worker_id": worker_id, **settings})
        part.worker_id = worker_id
        return part

    def both(self) -> None:
        """A worker and a backend, started side by side."""
        worker, backend = self.begin_worker(), self.begin_backend()
        self._until_beating(worker)
        self._until_well(backend)

    def _until_beating(self, part: Part) -> None:
        def beats() -> bool:
            part.must_run()
            with redis.Redis.from_url(self.queue_url) as client:
                return bool(client.exists(keys.heartbeat(part.worker_id)))

        eventually_sync(beats, START_S)

    def _start(self, module: str, settings: Settings, url: str = "") -> Part:
        given: Settings = {
            "database_url": self.database,
            "redis_url": self.queue_url,
            "buffer_redis_url": self.buffers_url,
            "log_format": "json",
            "faults": 1,
            **self.settings,
            **settings,
        }
        name = f"{module.rsplit('.', maxsplit=1)[-1]}-{len(self.parts)}"
        log = self.home / f"{name}.log"
        paths = [str(ROOT), str(ROOT / "sdks" / "python"), os.environ.get("PYTHONPATH", "")]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            **{f"TRACEHUB_{key.upper()}": str(value) for key, value in given.items()},
        }
        with log.open("wb") as output:
            child = process.spawn([sys.executable, "-m", module], env=env, output=output, cwd=ROOT)
        part = Part(name, child, log, url)
        self.parts.append(part)
        return part

    def stop(self) -> None:
        for part in reversed(self.parts):
            if part.is_running():
                part.child.send_signal(signal.SIGTERM)
        for part in reversed(self.parts):
            part.stop()


@dataclass
class Deployer:
    """Makes deployments with a queue and a database that nobody else uses."""

    databases: Databases
    template: str
    home: Path
    stack: ExitStack = field(default_factory=ExitStack)
    made: list[Deployment] = field(default_factory=list)

    def make(self, **settings: object) -> Deployment:
        home = self.home / uuid.uuid4().hex[:8]
        valkey = Valkey(home / "valkey", durable=False)
        self.stack.callback(valkey.stop)
        valkey.start()
        name = self.databases.create(self.template)
        self.stack.callback(self.databases.drop, name)
        database = self.databases.stores.postgres.url_of(name)
        made = Deployment(home, database, valkey.url, valkey.url, settings)
        self.stack.callback(made.stop)
        self.made.append(made)
        return made

    @contextmanager
    def started(self, **settings: object) -> Iterator[Deployment]:
        """One backend and one worker, until the block ends."""
        with self.stack:
            deployment = self.make(**settings)
            deployment.both()
            yield deployment

    def take(self, **settings: object) -> Deployment:
        """The deployment that was made last, with these settings."""
        self.made[-1].settings.update(settings)
        return self.made[-1]


@pytest.fixture(scope="session")
def server(
    databases: Databases, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """One backend and one worker; bodies must arrive within BODY_TIMEOUT_S."""
    deployer = Deployer(databases, migrated_template, tmp_path_factory.mktemp("server"))
    with deployer.started(body_timeout_s=BODY_TIMEOUT_S) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def closed(
    databases: Databases, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A backend and a worker that ask for keys (keyed.py)."""
    deployer = Deployer(databases, migrated_template, tmp_path_factory.mktemp("closed"))
    with deployer.started(**KEYS) as deployment:
        yield deployment


@pytest.fixture
async def entry_id(closed: Deployment) -> AsyncIterator[str]:
    """An entry of the default tenant's `secret-svc`, which also has a gap and a dead letter."""
    async with speaking(closed, WRITE) as writer:
        first = batch("secret-svc", 1, 3)
        first["batch"][0]["message"] = SECRET
        assert (await writer.post("/ingest", json=first)).status_code == 200
        other = batch("secret-svc", 3)
        other["batch"][0]["message"] = "a conflict with " + SECRET
        assert (await writer.post("/ingest", json=other)).status_code == 200
    async with speaking(closed, READ) as reader:
        found = (await reader.get("/api/v1/logs", params={"search": SECRET})).json()["data"]["entries"]
        assert (await reader.get("/dead-letters")).json()["total"]
        assert (await reader.get("/replay")).json()["total"]
        yield found[0]["id"]


@pytest.fixture
def deploy(
    databases: Databases, migrated_template: str, tmp_path: Path
) -> Iterator[Callable[..., Deployment]]:
    """A deployment of the test's own, made ready with these settings; nothing runs in it yet."""
    deployer = Deployer(databases, migrated_template, tmp_path)
    with deployer.stack:
        deployer.make()  # here and not in the test, whose event loop runs already
        yield deployer.take


@pytest.fixture
def well_afterwards(server: Deployment) -> Iterator[None]:
    """Whatever a test sent, the server is well and takes the next good request."""
    yield
    assert all(part.is_running() for part in server.parts)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as speaking:
        told = speaking.get("/health")
        assert (told.status_code, told.json()["status"]) == (200, "ok")
        good = speaking.post("/ingest", json=batch(f"well-{uuid.uuid4().hex[:12]}", 1, 2))
        assert (good.status_code, good.json()["ackTill"]) == (200, 2), good.text


@pytest.fixture
async def client(server: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the module's server."""
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30, limits=limits) as speaking:
        yield speaking


@pytest.fixture
async def postgres(server: Deployment) -> AsyncIterator[asyncpg.Connection]:
    """A look into the server's database."""
    connection = await asyncpg.connect(server.database, ssl=False)
    yield connection
    await connection.close()


@pytest.fixture
def service() -> str:
    """A service that no other test uses."""
    return f"svc-{uuid.uuid4().hex[:12]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Show the logs of the processes that a failed test spoke to."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            deployer = getattr(value, "__self__", None)
            made = deployer.made if isinstance(deployer, Deployer) else [value]
            for part in (part for one in made if isinstance(one, Deployment) for part in one.parts):
                report.sections.append((f"log of {part.name}", part.tail()))
    return report
