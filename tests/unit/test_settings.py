"""Every setting that log-service.md §9 names: its default, its other names, and how it is shown."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.connection import parse_url
from typer.testing import CliRunner

from apps.cli import app
from tracehub.runtime.settings import DB_CONNECTIONS_MIN, Settings, read_settings
from tracehub.runtime.store_addresses import POSTGRES_NAMES, REDIS_NAMES
from tracehub.storage.postgres.connect import shared

# Variable, default, another value of it as text and as it is read.
TABLE: list[tuple[str, Any, str, Any]] = [
    ("TRACEHUB_HOST", "127.0.0.1", "::1", "::1"),
    ("TRACEHUB_PORT", 3001, "5", 5),
    ("SERVER_PORT", 0, "5002", 5002),
    ("HTTP_PORT", 0, "8081", 8081),
    ("WS_PORT", 0, "8080", 8080),
    ("OBS_PORT", 0, "8000", 8000),
    ("DB_MAX_OPEN_CONNS", 50, "9", 9),
    ("LOG_RETENTION_DAYS", 30, "7", 7),
    ("LOG_MAX_SIZE_GB", 50.0, "0.5", 0.5),
    ("LOG_CLEANUP_ENABLED", True, "false", False),
    ("LOG_CLEANUP_CRON", "0 2 * * *", "5 4 * * 0", "5 4 * * 0"),
    ("TRACEHUB_SLACK_WEBHOOK", "", "https://s", "https://s"),
    ("TRACEHUB_ALERT_WEBHOOK", "", "https://a", "https://a"),
    ("TRACEHUB_PAGERDUTY_KEY", "", "k", "k"),
    ("TRACEHUB_ALERT_EMAIL", "", "a@b", "a@b"),
    ("SMTP_HOST", "", "mail", "mail"),
    ("SMTP_PORT", 587, "25", 25),
    ("SMTP_USER", "", "me", "me"),
    ("SMTP_PASSWORD", "", "p", "p"),
    ("SMTP_FROM", "tracehub@localhost", "a@b", "a@b"),
    ("SMTP_TLS", "starttls", "none", "none"),
    ("TRACEHUB_PUBLIC_URL", "http://localhost:3001", "https://t", "https://t"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "http://c:4318", "http://c:4318"),
    ("OTEL_SERVICE_NAME", "tracehub", "logs", "logs"),
]
PARTS = {
    "POSTGRES_": ("HOST", "PORT", "USER", "PASSWORD", "DB"),
    "DB_": ("HOST", "PORT", "USER", "PASSWORD", "NAME", "SSL_MODE"),
}


def value_of(settings: Settings, variable: str) -> Any:
    found = getattr(settings, variable.removeprefix("TRACEHUB_").lower())
    return found.get_secret_value() if isinstance(found, SecretStr) else found


def shown() -> dict[str, dict[str, str]]:
    """`tracehub config`, by variable."""
    done = CliRunner().invoke(app, ["config", "--json"])
    return {row["variable"]: row for row in json.loads(done.stdout)}


@pytest.mark.parametrize(("variable", "default", "text", "value"), TABLE)
def test_each_setting_has_its_default_and_its_names(
    monkeypatch: pytest.MonkeyPatch, *, variable: str, default: Any, text: str, value: Any
) -> None:
    """The name without our prefix, if it has one, and with it, which is stronger."""
    assert value_of(Settings(), variable) == default
    monkeypatch.setenv(variable, text)
    assert value_of(Settings(), variable) == value
    ours = f"TRACEHUB_{variable.removeprefix('TRACEHUB_')}"
    row = shown()[ours]
    assert row["from"] == "environment"
    assert variable in (ours, *row["description"].split())
    if ours != variable:
        monkeypatch.setenv(variable, str(default))
        monkeypatch.setenv(ours, text)
        assert value_of(Settings(), variable) == value


@pytest.mark.parametrize(
    ("env", "address"),
    [
        ({}, "postgresql://postgres@localhost:5432/tracehub"),
        ({"DATABASE_URL": "postgres://u@h/d", "POSTGRES_HOST": "x"}, "postgres://u@h/d"),
        ({"DATABASE_URL": "", "POSTGRES_HOST": "p", "DB_HOST": "d"}, "postgresql://postgres@p:5432/tracehub"),
        ({"POSTGRES_PASSWORD": "s"}, "postgresql://postgres:s@localhost:5432/tracehub"),
        ({"POSTGRES_PASSWORD": "s", "DB_HOST": "d"}, "postgresql://postgres@d:5432/tracehub"),
        (
            {"POSTGRES_HOST": "::1", "POSTGRES_PORT": "6", "POSTGRES_USER": "u@x", "POSTGRES_DB": "a/b"},
            "postgresql://u%40x@[::1]:6/a%2Fb",
        ),
        (
            {"DB_HOST": "h", "DB_USER": "u", "DB_PASSWORD": "p:/@ %", "DB_NAME": "n", "DB_SSL_MODE": "require"},
            "postgresql://u:p%3A%2F%40%20%25@h:5432/n?sslmode=require",
        ),
        ({"DB_SSL_MODE": "disable"}, "postgresql://postgres@localhost:5432/tracehub?sslmode=disable"),
        ({"DB_MAX_OPEN_CONNS": "9"}, "postgresql://postgres@localhost:5432/tracehub"),
    ],
)  # fmt: skip
def test_usual_names_make_a_postgres_address(env: dict[str, str], address: str) -> None:
    assert Settings().database(env) == address
    assert Settings(database_url="postgresql://ours").database(env) == "postgresql://ours"


@pytest.mark.parametrize(
    ("env", "address"),
    [
        ({}, "redis://localhost:6379/0"),
        ({"REDIS_URL": "rediss://h", "REDIS_HOST": "x"}, "rediss://h"),
        ({"REDIS_HOST": "h", "REDIS_PORT": "7", "REDIS_DB": "3"}, "redis://h:7/3"),
        ({"REDIS_PASSWORD": "a b@c/"}, "redis://:a%20b%40c%2F@localhost:6379/0"),
        ({"REDIS_HOST": "fe80::1", "REDIS_PORT": ""}, "redis://[fe80::1]:6379/0"),
    ],
)
def test_usual_names_make_a_redis_address(env: dict[str, str], address: str) -> None:
    assert Settings().redis(env) == Settings().buffer_redis(env) == address
    assert Settings(redis_url="redis://ours").redis(env) == "redis://ours"


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_password_arrives(password: str) -> None:
    address = Settings().database({"POSTGRES_HOST": "h", "POSTGRES_PASSWORD": password})
    assert unquote(urlsplit(address).password or "") == password
    assert parse_url(Settings().redis({"REDIS_PASSWORD": password}))["password"] == password


@pytest.mark.parametrize(
    ("ours", "name"),
    [
        *((("TRACEHUB_DATABASE_URL"), name) for name in POSTGRES_NAMES),
        *(("TRACEHUB_REDIS_URL", name) for name in REDIS_NAMES),
    ],
)
def test_the_address_in_use_is_shown(monkeypatch: pytest.MonkeyPatch, ours: str, name: str) -> None:
    """Without its password."""
    secret = name.endswith("PASSWORD")
    url = {"DATABASE_URL": "postgres://me:s3cr@t@h/d", "REDIS_URL": "redis://h:1/0?password=s3cr@t"}
    monkeypatch.setenv(name, url.get(name, "s3cr@t" if secret else "1234"))
    row = shown()[ours]
    assert row["from"] == "environment"
    assert "s3cr" not in row["value"]
    assert ("***" in row["value"]) == (secret or name in url)
    assert secret or name in url or "1234" in row["value"]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SERVER_PORT", "many"),
        ("TRACEHUB_WS_PORT", "70000"),
        ("TRACEHUB_PORT", "-1"),
        ("DB_MAX_OPEN_CONNS", "7"),
    ],
)
def test_a_bad_setting_ends_the_program_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SystemExit) as ended:
        read_settings()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{variable}: ")
    assert said.count("\n") == 1


def test_listeners_are_those_that_are_on() -> None:
    assert Settings().listeners() == {"TRACEHUB_PORT": 3001}
    assert Settings(obs_port=8000, http_port=8081).listeners() == {
        "TRACEHUB_PORT": 3001, "HTTP_PORT": 8081, "OBS_PORT": 8000,
    }  # fmt: skip


@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 20))
def test_pools_share_what_a_process_may_have(most: int, larger: int, lesser: int) -> None:
    shares = shared(most, larger, lesser)
    assert sum(shares) == min(most, larger + lesser)
    assert all(got >= 1 for got in shares)
    assert shares[1] <= lesser


def test_the_least_leaves_a_worker_what_it_needs() -> None:
    """Retention, indexing, closing, a commit, and who frees it when its locks are held."""
    assert shared(DB_CONNECTIONS_MIN, 8, 5)[0] >= 5
