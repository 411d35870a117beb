"""Further ports of one backend: the same application, of which only `/` differs; and ports that cannot be had."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_now

from tests.conftest import Databases
from tests.eventually import eventually_sync
from tests.integration.asking import batch
from tests.integration.conftest import Deployer, Deployment
from tests.integration.keyed import Watcher
from tracehub.runtime.embedded.ports import free_port

START_S = 20.0
STOP_S = 10.0
FURTHER = ("server_port", "http_port", "ws_port", "obs_port")
PORTS = ("port", *FURTHER)


@pytest.fixture(scope="module")
def deployment(
    databases: Databases, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """A backend with all of them and a worker."""
    deployer = Deployer(databases, migrated_template, tmp_path_factory.mktemp("ports"))
    with deployer.stack:
        made = deployer.make(**{name: free_port() for name in FURTHER})
        made.both()
        yield made


def at(deployment: Deployment, name: str) -> str:
    """The address of a listener, without the scheme."""
    return f"127.0.0.1:{deployment.settings.get(name, deployment.main.port)}"


@pytest.fixture
async def asking() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        yield client


async def front_of(asking: httpx.AsyncClient, address: str) -> str:
    """What `/` is."""
    answer = await asking.get(f"http://{address}/", headers={"Accept": "text/html"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


async def test_every_path_answers_on_every_port(deployment: Deployment, asking: httpx.AsyncClient) -> None:
    """Also those that have an application of their own, and the one that goes past the routes."""
    for at_once, name in enumerate(PORTS, start=1):
        here = f"http://{at(deployment, name)}"
        sent = await asking.post(f"{here}/ingest", json=batch("ports", at_once))
        assert (sent.status_code, sent.json()["ackTill"]) == (200, at_once), name
        one = {"service_name": "ports", "message": name}
        assert (await asking.post(f"{here}/api/v1/logs", json=one)).status_code == 201
        for path in ("/health", "/api/health", "/services", "/api/v1/logs", "/api/logs", "/docs", "/metrics"):
            assert (await asking.get(here + path)).status_code == 200, (name, path)
        assert (await asking.get(f"{here}/nothing")).status_code == 404
        watcher = Watcher()
        assert await watcher.connect(here)
        await watcher.leave()


async def test_only_the_front_differs(deployment: Deployment, asking: httpx.AsyncClient) -> None:
    """On HTTP_PORT it is what /docs is; on the others what it is on TRACEHUB_PORT."""
    fronts = {name: await front_of(asking, at(deployment, name)) for name in PORTS}
    described = (await asking.get(f"http://{at(deployment, 'http_port')}/docs")).text
    assert "TraceHub API" in described
    assert fronts.pop("http_port") == described
    assert set(fronts.values()) == {fronts["port"]}
    assert fronts["port"] != described


async def test_any_path_is_a_socket_on_one_port(deployment: Deployment) -> None:
    """Elsewhere /ws only."""
    for name, path in [
        *((name, "/ws") for name in PORTS),
        ("ws_port", "/"),
        ("ws_port", "/api/v1/any?app_id=1"),
    ]:
        async with connect(f"ws://{at(deployment, name)}{path}", proxy=None) as speaking:
            assert orjson.loads(await speaking.recv())["type"] == "connected"
    for name in set(PORTS) - {"ws_port"}:
        for path in ("/", "/any"):
            with pytest.raises(InvalidStatus):
                await connect(f"ws://{at(deployment, name)}{path}", proxy=None)


def test_sockets_on_further_ports_end_with_the_server(deploy: Callable[..., Deployment]) -> None:
    """One stop for all of them: what is open is told, and nothing listens afterwards."""
    deployment = deploy(ws_port=free_port())
    part = deployment.backend()
    with connect_now(f"ws://{at(deployment, 'ws_port')}/x", proxy=None) as speaking:
        speaking.recv()
        part.child.terminate()
        part.child.wait(STOP_S)
        with pytest.raises(ConnectionClosed):
            speaking.recv()
        assert speaking.close_code == 1012
    for name in ("port", "ws_port"):
        host, port = at(deployment, name).split(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)))


@pytest.mark.parametrize("setting", ["TRACEHUB_PORT", "HTTP_PORT"])
def test_a_port_that_is_taken_is_named(deploy: Callable[..., Deployment], setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        name = setting.removeprefix("TRACEHUB_").lower()
        part = deploy().begin_backend(**{name: taken})
        assert part.child.wait(START_S) == 2
        said = part.tail().strip()
    assert said == f"tracehub: cannot listen on 127.0.0.1 at {setting} {taken}: Address already in use"


def test_one_port_cannot_be_two(deploy: Callable[..., Deployment]) -> None:
    same = free_port()
    part = deploy().begin_backend(ws_port=same, obs_port=same)
    assert part.child.wait(START_S) == 2
    assert f"OBS_PORT {same}" in part.tail()
    assert "\n" not in part.tail().strip()


def test_an_open_server_has_no_further_ports_beyond_loopback(deploy: Callable[..., Deployment]) -> None:
    part = deploy().begin_backend(host="0.0.0.0", ws_port=free_port())
    assert part.child.wait(START_S) == 2
    assert "TRACEHUB_WRITE_KEY" in part.tail()


def test_further_ports_go_by_their_own_names(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HTTP_PORT", str(port))
    part = deploy().begin_backend()

    def answers() -> bool:
        part.must_run()
        try:
            return "TraceHub API" in httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text
        except httpx.TransportError:
            return False

    eventually_sync(answers, START_S)
