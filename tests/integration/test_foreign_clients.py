"""Clients of others, unmodified, against our doors: what they send is read back exactly over GET /api/v1/logs."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import logging_loki
import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from tests.eventually import eventually
from tests.integration.conftest import Deployment
from tracehub.protocol.times import iso

JS = Path(__file__).parents[1] / "clients" / "js"
INSTALL_S = 120
BEGIN_MS = 1_731_868_800_000
COUNT = 40


async def stored(client: httpx.AsyncClient, service: str, count: int) -> list[dict[str, Any]]:
    """The entries of a service, oldest first, as soon as there are so many."""
    query = {"service": service, "order": "asc", "page_size": 1000}

    async def look() -> list[dict[str, Any]]:
        answer = await client.get("/api/v1/logs", params=query)
        found: list[dict[str, Any]] = answer.json()["data"]["entries"]
        assert len(found) == count
        return found

    return await eventually(look, 20)


def export(url: str, service: str) -> None:
    """As a program would: a provider, a batch processor, the exporter with gzip."""
    resource = Resource(
        {
            "service.name": service,
            "service.version": "1.2.3",
            "deployment.environment.name": "staging",
            "host.name": "pod-1",
        }
    )
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPLogExporter(f"{url}/v1/logs", compression=Compression.Gzip)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("tests.clients", "0.9")
    span = SpanContext(0xABC123, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    for n in range(COUNT):
        logger.emit(
            timestamp=(BEGIN_MS + n) * 1_000_000 + 999,
            context=set_span_in_context(NonRecordingSpan(span)),
            severity_number=SeverityNumber.ERROR,
            severity_text="ERROR",
            body=f"line {n} of Größe €",
            attributes={"n": n, "user.id": f"u-{n}", "list": [1, 2.5], "deep": {"er": [True, None, "x"]}},
        )
    assert provider.force_flush()
    provider.shutdown()


async def test_opentelemetry_python(server: Deployment, client: httpx.AsyncClient, service: str) -> None:
    """Protobuf, gzipped."""
    await asyncio.to_thread(export, server.url, service)
    for n, shown in enumerate(await stored(client, service, COUNT)):
        metadata = shown.pop("metadata")
        assert metadata.pop("scope") == {"name": "tests.clients", "version": "0.9"}
        assert metadata.pop("resource")["service.name"] == service
        assert metadata == {
            "n": n, "user.id": f"u-{n}", "list": [1, 2.5], "deep": {"er": [True, None, "x"]}
        }  # fmt: skip
        assert shown == {
            "id": shown["id"],
            "tenant_id": shown["tenant_id"],
            "service_name": service,
            "level": "ERROR",
            "severity": 17,
            "message": f"line {n} of Größe €",
            "timestamp": iso(BEGIN_MS + n),
            "created_at": shown["created_at"],
            "door": "otlp",
            "trace_id": f"{0xABC123:032x}",
            "span_id": f"{0xDEF:016x}",
            "user_id": f"u-{n}",
            "environment": "staging",
            "host": "pod-1",
            "release": "1.2.3",
        }


@pytest.fixture(scope="session")
def js_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenTelemetry's packages for Node, as the lock file names them."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not on PATH")
    home = tmp_path_factory.mktemp("js") / "client"
    shutil.copytree(JS, home, ignore=shutil.ignore_patterns("node_modules"))
    command = [npm, "ci", "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=home, capture_output=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm could not install the exporter within {INSTALL_S} s")
    if done.returncode:
        pytest.skip("npm cannot install the exporter: " + done.stderr.decode(errors="replace")[-300:])
    return home


async def test_opentelemetry_js(
    server: Deployment, client: httpx.AsyncClient, service: str, js_client: Path
) -> None:
    """JSON."""
    command = ["node", "emit.mjs", f"{server.url}/v1/logs", service, str(COUNT)]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=js_client, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    for n, shown in enumerate(await stored(client, service, COUNT)):
        metadata = shown["metadata"]
        body = {"n": n, "list": [1, 2.5, "drei", True]}
        if n % 2:
            assert shown["message"] == f"line {n} of Größe €"
        else:
            assert json.loads(shown["message"]) == metadata.pop("body") == body
        assert metadata.pop("scope") == {"name": "tests.clients.js", "version": "1.0"}
        assert metadata.pop("resource")["service.name"] == service
        assert metadata == {"n": n, "user.id": f"u-{n}", "nested": {"deep": ["x", n]}}
        assert (shown["level"], shown["severity"], shown["door"]) == ("WARN", 13, "otlp")
        assert (shown["timestamp"], shown["user_id"]) == (iso(BEGIN_MS + n), f"u-{n}")
        assert shown["environment"] == "test"


async def test_python_logging_loki(server: Deployment, client: httpx.AsyncClient, service: str) -> None:
    """JSON, a request per line; its labels are the program's tags."""
    url = f"{server.url}/loki/api/v1/push"
    handler = logging_loki.LokiHandler(url, tags={"application": service, "env": "test"}, version="1")
    logger = logging.Logger(f"tests.{service}")  # of its own: nobody else's records
    logger.addHandler(handler)
    failed: list[logging.LogRecord] = []
    handler.handleError = failed.append

    def run() -> None:
        for n in range(COUNT):
            logger.warning("line %s of Größe €\nand more", n, extra={"tags": {"request": f"r-{n}"}})
        handler.close()

    await asyncio.to_thread(run)
    assert failed == []
    for n, shown in enumerate(await stored(client, service, COUNT)):
        assert shown["message"] == f"line {n} of Größe €\nand more"
        assert (shown["level"], shown["level_text"], shown["door"]) == ("WARN", "warning", "loki")
        assert shown["environment"] == "test"
        assert shown["metadata"] == {
            "labels": {
                "application": service, "env": "test", "request": f"r-{n}",
                "severity": "warning", "logger": f"tests.{service}",
            }
        }  # fmt: skip


async def test_socket_io_client_js(
    server: Deployment, client: httpx.AsyncClient, service: str, js_client: Path
) -> None:
    """What it hears is what is read."""
    listening = await asyncio.create_subprocess_exec(
        "node", "listen.mjs", server.url, "2", cwd=js_client, stdout=asyncio.subprocess.PIPE
    )
    assert listening.stdout is not None
    async with asyncio.timeout(30):
        assert await listening.stdout.readline() == b"connected\n"
        entries = [{"service_name": service, "message": f"Größe {n}"} for n in range(2)]
        assert (await client.post("/api/v1/logs/batch", json={"entries": entries})).status_code == 201
        heard = [json.loads(await listening.stdout.readline()) for _ in range(2)]
        assert await listening.wait() == 0
    assert heard == await stored(client, service, 2)
