"""What the person asked for, as one value; checked before anything is started."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tracehub.protocol.grants import READ, WRITE, environment_grants, open_scopes
from tracehub.runtime.embedded.ports import free_port
from tracehub.runtime.listening import ListenError, listening
from tracehub.runtime.settings import Settings

SIMULATED_SERVICES = ("auth-svc", "payment-svc", "notif-svc")


class RefusedError(Exception):
    """`up` cannot start as asked; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """Flags over `TRACEHUB_…` settings over defaults; an empty address means "embed it"."""

    data_dir: Path
    host: str
    port: int
    workers: int
    simulators: int
    simulator_rate: float
    database_url: str
    redis_url: str
    buffer_redis_url: str
    worker_restart_ms: int
    insecure: bool
    further_ports: Mapping[str, int] = field(default_factory=dict)  # by the settings that name them
    is_closed: bool = False  # keys of the environment guard both writing and reading

    @property
    def reachable_host(self) -> str:
        """Where this machine reaches the backend: the host, or loopback when it listens everywhere."""
        if self.host in {"", "0.0.0.0"}:  # noqa: S104 - compared, not bound
            return "127.0.0.1"
        if self.host == "::":
            return "[::1]"
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def http(self) -> str:
        """The address people and simulators use."""
        return f"http://{self.reachable_host}:{self.port}"


def options_from(settings: Settings, flags: Mapping[str, object]) -> Options:
    """Settings with the given flags over them (None: not given).

    Only flags and `TRACEHUB_…` name the stores: a stray DATABASE_URL or REDIS_URL must not make `up` migrate
    or fill somebody's database. Port 0 becomes a free port now, so that it stays the same over restarts.
    """
    values = settings.model_copy(update={name: value for name, value in flags.items() if value is not None})
    return Options(
        data_dir=Path(values.data_dir).expanduser().absolute(),
        host=values.host,
        port=values.port or free_port(),
        workers=values.workers,
        simulators=values.sim,
        simulator_rate=values.sim_rate,
        database_url=values.database_url,
        redis_url=values.redis_url,
        buffer_redis_url=values.buffer_redis_url,
        worker_restart_ms=values.worker_restart_ms,
        insecure=values.insecure,
        further_ports={name: port for name, port in values.listeners().items() if name != "TRACEHUB_PORT"},
        is_closed=open_scopes(environment_grants(values.given_keys()).values()).isdisjoint((WRITE, READ)),
    )


def check_listening(options: Options) -> None:
    """RefusedError when we may not listen there: beyond loopback while all is open, or taken."""
    try:
        found = socket.getaddrinfo(options.host or None, options.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RefusedError(f"--host {options.host}: {error.strerror}") from error
    for *_, address in found:
        is_loopback = ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback
        if not is_loopback and not options.insecure and not options.is_closed:
            raise RefusedError(
                f"--host {options.host} can be reached from other machines, and no key is configured: "
                "anybody could read and change everything.\n"
                "Set TRACEHUB_WRITE_KEY and TRACEHUB_READ_KEY, listen on 127.0.0.1, or set TRACEHUB_INSECURE=1 "
                "if something else keeps strangers out."
            )
    try:
        for probe in listening(options.host, {"--port": options.port, **options.further_ports}):
            probe.close()
    except ListenError as error:
        raise RefusedError(f"{error}. Is something else running there? Choose another one.") from error


def child_environment(options: Options, stores: Mapping[str, str]) -> dict[str, str]:
    """The environment of our parts: ours, with exact addresses of the stores and nothing that competes."""
    competing = ("POSTGRES_", "DB_", "REDIS_", *(() if options.database_url else ("PG",)))
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "DB_MAX_OPEN_CONNS" or not (name == "DATABASE_URL" or name.startswith(competing))
    }
    root = Path(__file__).resolve().parents[2]  # where `apps` and `tracehub` are imported from
    paths = [str(root), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        "TRACEHUB_FAULTS": "1",  # this is the demo; set TRACEHUB_FAULTS=0 to forbid them
        **kept,
        **stores,
        "TRACEHUB_DATA_DIR": str(options.data_dir),
        "TRACEHUB_HOST": options.host,
        "TRACEHUB_PORT": str(options.port),
        "TRACEHUB_LOG_FORMAT": "json",  # so that warnings can be told from the rest
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
    }


def simulated_service(index: int) -> str:
    """The name of the simulator with this index, from 0."""
    return SIMULATED_SERVICES[index] if index < len(SIMULATED_SERVICES) else f"sim-{index + 1}"
