"""A real Valkey for the buffer, a strict model for the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sdk_log_server import LogServer
from sdk_model_server import HttpModelServer
from sdk_valkey import Valkey


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    valkey = Valkey(tmp_path_factory.mktemp("valkey"))
    yield valkey
    valkey.close()


@pytest.fixture
def valkey(shared_valkey: Valkey) -> Valkey:
    """An empty Valkey, shared by the tests of this process."""
    shared_valkey.client.flushall()
    return shared_valkey


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey for one test, which may kill it."""
    valkey = Valkey(tmp_path)
    yield valkey
    valkey.close()


@pytest.fixture
def server() -> Iterator[HttpModelServer]:
    http = HttpModelServer()
    yield http
    http.close()


@pytest.fixture
def log_server() -> Iterator[LogServer]:
    """For clients of /api/v1/logs/batch."""
    http = LogServer()
    yield http
    http.close()
