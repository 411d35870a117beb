"""Servers for one test run: real ones, in a temporary folder that goes with them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tracehub.runtime.embedded.postgres import Postgres
from tracehub.runtime.embedded.valkey import Valkey


@dataclass(frozen=True, slots=True)
class Stores:
    """A running Postgres, the queue's Valkey and the buffers' Valkey."""

    postgres: Postgres
    queue: Valkey
    buffers: Valkey


@contextmanager
def ephemeral_stores() -> Iterator[Stores]:
    """All three, started in about half a second; stopped and deleted at the end."""
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="tracehub-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        stores = Stores(
            Postgres(home / "postgres", durable=False),
            Valkey(home / "queue", durable=False),
            Valkey(home / "buffers", durable=True),
        )
        for server in (stores.postgres, stores.queue, stores.buffers):
            stack.callback(server.stop)
            server.start()
        yield stores
