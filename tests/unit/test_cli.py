"""The command line teaches, starts fast, and tells people what is wrong in one sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from apps.cli import app
from tracehub.runtime.settings import Settings

runner = CliRunner()
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


class Api(BaseHTTPRequestHandler):
    """Answers like a TraceHub that holds one of everything, and writes down what it was asked."""

    asked: list[tuple[str, str, Any]]
    shown: list[str | None]

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        self.asked.append((self.command, self.path, body))
        self.shown.append(self.headers.get("Authorization"))
        told: Any = {"id": 7}
        status = 200
        if self.path.startswith("/services"):
            told = [{"service": "evil\x1b[2J", "epoch": 0, "ackTill": 5, "state": "ok", "missingCount": 0}]
        elif self.command == "GET":
            told = {"total": 0, "replays": []}
        elif "/404" in self.path:
            status, told = 404, {"error": {"code": "not_found", "message": "there is none of this id"}}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def api() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    Api.asked, Api.shown = [], []
    with HTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Api.asked
        server.shutdown()
        thread.join()


def test_required_commands_are_there() -> None:
    wanted = "up backend worker producer-sim ship migrate verify services replay dead-letters bench config"
    assert set(wanted.split()) <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_gives_an_example(name: str) -> None:
    assert "Example: `" in (COMMANDS[name].help or "")
    for sub in getattr(COMMANDS[name], "commands", {}).values():
        assert "Example: `" in (sub.help or "")


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, apps.cli; print({'asyncpg', 'redis', 'pydantic', 'starlette'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_config_lists_every_setting_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEHUB_REDIS_URL", "redis://:s3cret@host:1/0")
    done = runner.invoke(app, ["config", "--json"])
    rows = {row["variable"]: row for row in json.loads(done.stdout)}
    assert len(rows) == len(Settings.model_fields)
    assert all(row["description"] for row in rows.values())
    assert rows["TRACEHUB_REDIS_URL"]["value"] == "redis://:***@host:1/0"
    assert rows["TRACEHUB_REDIS_URL"]["from"] == "environment"
    assert rows["TRACEHUB_PORT"]["default"] == "3001"


def test_config_hides_keys_and_knows_their_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEHUB_ADMIN_KEY", "s3cret-1")
    monkeypatch.setenv("UI_SECRET", "s3cret-2")
    done = runner.invoke(app, ["config", "--json"])
    assert "s3cret" not in done.stdout
    rows = {row["variable"]: row for row in json.loads(done.stdout)}
    for name, where in (("ADMIN", "environment"), ("READ", "environment"), ("WRITE", "default")):
        row = rows[f"TRACEHUB_{name}_KEY"]
        assert (row["from"], bool(row["value"])) == (where, where == "environment")
    assert "UI_SECRET" in rows["TRACEHUB_READ_KEY"]["description"]
    assert {"API_SECRET", "OBS_API_KEY"} <= set(re.findall(r"\w+", rows["TRACEHUB_WRITE_KEY"]["description"]))


def test_each_key_of_the_environment_counts() -> None:
    settings = Settings(write_key=" w ", admin_key="a")  # type: ignore[arg-type]
    others = {"API_SECRET": "w2", "OBS_API_KEY": "w3", "UI_SECRET": "r"}
    assert settings.given_keys({}) == [("write", "w"), ("admin", "a")]
    assert settings.given_keys(others) == [
        ("write", "w"), ("write", "w2"), ("write", "w3"), ("read", "r"), ("admin", "a"),
    ]  # fmt: skip
    assert [settings.key_for(scope, {}) for scope in ("write", "read", "admin")] == ["w", "a", "a"]
    assert Settings().key_for("read", {}) == ""


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({}, None),
        ({"READ": "r"}, "Bearer r"),
        ({"READ": "r", "ADMIN": "a"}, "Bearer a"),
        ({"WRITE": "w"}, None),
    ],
)
def test_commands_show_the_key_of_the_environment(
    api: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], shown: str | None
) -> None:
    for name, key in keys.items():
        monkeypatch.setenv(f"TRACEHUB_{name}_KEY", key)
    assert runner.invoke(app, ["services", "--url", api[0]]).exit_code == 0
    assert Api.shown == [shown]


def test_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEHUB_PORT", "many")
    done = runner.invoke(app, ["config"])
    assert done.exit_code == 2
    assert done.stderr.startswith("TRACEHUB_PORT: ")


def test_services_are_a_harmless_table(api: tuple[str, list[Any]]) -> None:
    done = runner.invoke(app, ["services", "--url", api[0]])
    assert done.exit_code == 0
    assert "evil\\x1b[2J" in done.stdout
    assert "ackTill" in done.stdout


def test_changes_carry_json_bodies(api: tuple[str, list[Any]]) -> None:
    """The routes refuse anything else, because a web page could send that."""
    url, asked = api
    for words in (
        ["replay", "request", "a", "3", "9", "--epoch", "1", "--url", url],
        ["replay", "abandon", "7", "--url", url],
        ["dead-letters", "retry", "8", "--url", url],
        ["dead-letters", "delete", "9", "--url", url],
    ):
        assert runner.invoke(app, words).exit_code == 0
    assert asked == [
        ("POST", "/replay", {"service": "a", "from": 3, "to": 9, "epoch": 1}),
        ("POST", "/replay/7/abandon", {}),
        ("POST", "/dead-letters/8/retry", {}),
        ("DELETE", "/dead-letters/9", {}),
    ]


def test_filters_become_a_query(api: tuple[str, list[Any]]) -> None:
    url, asked = api
    done = runner.invoke(app, ["replay", "--status", "pending", "--service", "a&b", "--url", url])
    assert done.stdout.strip() == "No replay requests."
    assert asked[0][1] == "/replay?status=pending&service=a%26b&limit=50"


def test_refusal_is_told(api: tuple[str, list[Any]]) -> None:
    done = runner.invoke(app, ["replay", "abandon", "404", "--url", api[0]])
    assert done.exit_code == 1
    assert done.stderr == "not_found: there is none of this id\n"


def test_no_server_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEHUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRACEHUB_PORT", "1")
    done = runner.invoke(app, ["services"])
    assert done.exit_code == 1
    assert "is `tracehub up` running?" in done.stderr
