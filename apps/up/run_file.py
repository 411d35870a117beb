"""`DATA_DIR/run.json`: what is running and where, for scripts and for people who like psql.

    {"http": "http://127.0.0.1:3001", "database_url": "postgresql://…", "redis_url": "…",
     "buffer_redis_url": "…", "pids": {"backend": 1, "workers": [2, 3], "postgres": 4, "redis": 5,
     "buffer_redis": 6, "simulators": [7, 8, 9]}}

It holds passwords, so only its owner may read it (mode 600). It is replaced as a whole whenever a part comes
or goes, so a reader never sees half of it; a part that is down, or not ours, is null, or absent from its
list. It is there exactly while `up` runs, unless `up` was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from apps.up.part import Part

LISTS = {"worker": "workers", "simulator": "simulators"}
SINGLES = ("backend", "postgres", "redis", "buffer_redis")


class RunFile:
    """The file of one run."""

    def __init__(self, path: Path, addresses: Mapping[str, str]) -> None:
        self._path = path
        self._addresses = dict(addresses)

    def write(self, parts: Iterable[Part]) -> None:
        """Replace the file by what is true now."""
        pids: dict[str, int | list[int] | None] = {
            "backend": None,
            "workers": [],
            "postgres": None,
            "redis": None,
            "buffer_redis": None,
            "simulators": [],
        }
        for part in parts:
            if part.role in SINGLES:
                pids[part.role] = part.pid
            elif part.pid is not None:
                several = pids[LISTS[part.role]]
                if isinstance(several, list):
                    several.append(part.pid)
        unfinished = self._path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({**self._addresses, "pids": pids}, file, indent=1)
            file.write("\n")
        unfinished.replace(self._path)

    def remove(self) -> None:
        """Nothing runs any more."""
        self._path.unlink(missing_ok=True)
