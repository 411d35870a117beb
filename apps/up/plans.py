"""How each part is run: its command, its log, how patiently it is stopped, and when it comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from apps.up.options import Options, simulated_service
from apps.up.part import Plan, Steps
from apps.up.part_log import PartLog
from apps.up.terminal import Terminal
from tracehub.runtime.embedded import Postgres, Valkey
from tracehub.runtime.embedded.postgres import STOP_STEPS as POSTGRES_STOP
from tracehub.runtime.embedded.valkey import STOP_STEPS as VALKEY_STOP
from tracehub.runtime.process import spawn

SIMULATOR_STOP: Steps = ((signal.SIGTERM, 10.0),)  # it waits for what it sent to be acknowledged
BACKEND_STOP: Steps = ((signal.SIGTERM, 14.0),)  # answers what it has; longer than its own drain
WORKER_STOP: Steps = ((signal.SIGTERM, 15.0),)  # commits what it has; the rest stays in the queue


def store_plan(role: str, server: Postgres | Valkey) -> Plan:
    """An embedded server; its start returns when it answers."""

    def start() -> subprocess.Popen[bytes]:
        server.start()
        return server.child

    def abort() -> None:
        if (pid := server.pid) is not None:
            os.kill(pid, signal.SIGINT)

    steps = POSTGRES_STOP if isinstance(server, Postgres) else VALKEY_STOP
    return Plan(name=role.replace("_", "-"), role=role, start=start, stop_steps=steps, abort=abort)


SIMULATOR_SEED = "1"


class Processes:
    """Makes the plans of our own Python processes."""

    def __init__(self, options: Options, environment: Mapping[str, str], terminal: Terminal) -> None:
        self._options, self._environment, self._terminal = options, dict(environment), terminal
        self._folder = options.data_dir / "logs"
        self.logs: dict[str, PartLog] = {}

    def backend(self) -> Plan:
        start = self._starter("backend", ["apps.backend"])
        return Plan("backend", "backend", start, BACKEND_STOP)

    def worker(self, index: int) -> Plan:
        """Worker number `index`, from 0. It pauses before each restart, so that its lease runs out first."""
        name = f"worker-{index + 1}"
        mine = {"TRACEHUB_WORKER_ID": name, "TRACEHUB_SUPERVISED": "1"}
        start = self._starter(name, ["apps.worker"], mine)
        return Plan(name, "worker", start, WORKER_STOP, restart_s=self._options.worker_restart_ms / 1000)

    def simulator(self, index: int) -> Plan:
        """Simulator number `index`, from 0. All share one seed: their ids then cross services."""
        service = simulated_service(index)
        flags = [
            "--service",
            service,
            "--rate",
            f"{self._options.simulator_rate:g}",
            "--seed",
            SIMULATOR_SEED,
        ]
        start = self._starter(service, ["apps.producer_sim", *flags])
        return Plan(service, "simulator", start, SIMULATOR_STOP)

    def _starter(self, name: str, module: list[str], extra: Mapping[str, str] | None = None) -> _Start:
        self.logs[name] = PartLog(Path(self._folder, f"{name}.log"), self._terminal)
        return _Start(module, {**self._environment, **(extra or {})}, self.logs[name])


class _Start:
    """Starts one Python module as a child and follows its output."""

    def __init__(self, module: list[str], environment: dict[str, str], log: PartLog) -> None:
        # -P: a folder named `apps` where the person happens to stand must not be taken for ours
        self._command = [sys.executable, "-P", "-m", *module]
        self._environment, self._log = environment, log

    def __call__(self) -> subprocess.Popen[bytes]:
        child = spawn(self._command, env=self._environment, output=subprocess.PIPE)
        self._log.follow(child)
        return child
