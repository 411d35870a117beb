"""docker-compose.yml and Dockerfile say only what exists; no engine is needed to see it."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from apps.cli import app
from apps.producer_sim.__main__ import producer_sim
from tracehub.runtime.settings import ALIASES, Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "tracehub"}

FURTHER = {
    "SERVER_PORT": "5002",
    "HTTP_PORT": "8081",
    "WS_PORT": "8080",
    "OBS_PORT": "8000",
}  # log-service.md §9

# https://github.com/compose-spec/compose-spec/blob/main/05-services.md, as far as we use or may use it
SERVICE_KEYS = {
    *(
        "build",
        "command",
        "depends_on",
        "deploy",
        "entrypoint",
        "environment",
        "expose",
        "healthcheck",
        "image",
    ),
    *("init", "networks", "ports", "read_only", "restart", "shm_size", "stop_grace_period", "stop_signal"),
    *("ulimits", "user", "volumes", "working_dir"),
}
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
RESTARTS = re.compile(r"no|always|on-failure(:\d+)?|unless-stopped")
DURATION = re.compile(r"(\d+(us|ms|s|m|h))+")


def test_shape_is_the_specification() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} <= {"name", "services", "volumes", "networks"}
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", name)
        assert service.keys() <= SERVICE_KEYS, name
        assert "image" in service or "build" in service
        assert RESTARTS.fullmatch(service["restart"]), name
        assert DURATION.fullmatch(service.get("stop_grace_period", "10s"))
        assert all(isinstance(word, str) for word in service["command"]), name
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]


def test_required_parts_are_there() -> None:
    assert {
        "postgres",
        "redis",
        "backend",
        "worker",
        "auth-svc",
        "payment-svc",
        "notif-svc",
    } <= SERVICES.keys()


def test_health_checks_are_complete() -> None:
    for name in ("postgres", "redis", "buffers", "backend"):
        check = SERVICES[name]["healthcheck"]
        assert check.keys() <= HEALTH_KEYS
        assert check["test"][0] in {"CMD", "CMD-SHELL"}
        assert all(DURATION.fullmatch(check[key]) for key in ("interval", "timeout"))
        assert isinstance(check["retries"], int)


def test_dependencies_can_be_met() -> None:
    """`service_healthy` of a service without a health check would wait for ever."""
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] in CONDITIONS
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], (name, other)
            if how["condition"] == "service_completed_successfully":
                assert SERVICES[other]["restart"] in {"no", "on-failure"}, (name, other)


@pytest.mark.parametrize("name", sorted(OURS))
def test_command_and_variables_exist(name: str) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    words = OURS[name]["command"]
    assert words[0] in commands
    if words[0] == "producer-sim":
        known = {f"--{parameter}" for parameter in inspect.signature(producer_sim).parameters}
        assert {word for word in words if word.startswith("--")} <= known
    variables = {f"TRACEHUB_{field.upper()}" for field in Settings.model_fields}
    variables |= {name for names in ALIASES.values() for name in names}
    assert OURS[name].get("environment", {}).keys() <= variables


def test_only_loopback_of_the_host_is_published() -> None:
    """Everything is open inside: only this machine may reach it."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"backend": [f"127.0.0.1:{port}:{port}" for port in (3001, *FURTHER.values())]}
    assert OURS["backend"]["environment"] | FURTHER == OURS["backend"]["environment"]
    insecure = {name for name, service in OURS.items() if "TRACEHUB_INSECURE" in service["environment"]}
    assert insecure == {"backend"}


def test_buffers_are_durable_and_nothing_is_evicted() -> None:
    for name in ("redis", "buffers"):
        words = SERVICES[name]["command"]
        assert words[words.index("--maxmemory-policy") + 1] == "noeviction"
    words = SERVICES["buffers"]["command"]
    assert words[words.index("--appendfsync") + 1] == "always"
    assert any(volume.endswith(":/data") for volume in SERVICES["buffers"]["volumes"])
    assert SERVICES["backend"]["environment"]["TRACEHUB_BUFFER_REDIS_URL"] == "redis://buffers:6379/0"


def test_image_runs_our_command_as_an_ordinary_user() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert 'ENTRYPOINT ["tracehub"]' in lines
    assert "tracehub" in scripts
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)


def test_image_gets_what_it_copies() -> None:
    """.dockerignore lets in exactly what is named; every name must exist."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {"apps", "tracehub", "sdks/python", "requirements.lock", "pyproject.toml"} <= set(allowed)
    assert [path for path in allowed if not (ROOT / path).exists()] == []
