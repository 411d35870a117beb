"""A real Postgres as our own child: made on first use, found again afterwards, gone when we are.

    HOME/data        the cluster; HOME/password (mode 600), HOME/port, HOME/postgres.log beside it

What holds:
1. It listens on loopback only, and asks for a random password kept in HOME.
2. It dies with this process; what was committed survives that, and any `kill -9` of its own.
3. One server per HOME: `lease.py`.
4. Text compares byte by byte (builtin C.UTF-8), so order is the same on every machine.
5. The port of a server that has served never changes, because others know it; a later run has it again
   while nobody else took it.

`start` blocks for about half a second the first time and 0.05 s later; call it from a thread that stays
(see `process.py`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tracehub.runtime import process
from tracehub.runtime.clock import monotonic_s
from tracehub.runtime.embedded import binaries, identity, ports
from tracehub.runtime.embedded.errors import EmbeddedError, with_log_tail
from tracehub.runtime.embedded.lease import lease, working_in
from tracehub.runtime.embedded.postgres_conf import DURABLE, EPHEMERAL, pg_hba_conf, postgresql_conf

DATABASE = "tracehub"
USER = "postgres"
READY_WAIT_S = 120.0  # recovery of a few GB of WAL after a crash may take this long on a slow disk
INITDB_WAIT_S = 120.0
READY_POLL_S = 0.005
STOP_STEPS = (
    (signal.SIGINT, 20.0),  # fast: roll back, checkpoint, close
    (signal.SIGQUIT, 5.0),  # at once; the next start recovers
)
SHARED_PLACE = Path("/var/lib/tracehub")  # for a database that may not lie below a folder of root's
LOG_BYTES_MAX = 8 * 1024 * 1024


class Postgres:
    """One embedded server. `start` again after a crash or a stop; it comes back at the same address."""

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self._given_home = home.absolute()
        self._home = self._given_home
        self._settings = DURABLE if durable else EPHEMERAL
        self._durable = durable
        self._identity = process.OURSELVES
        self._install = Path()
        self._child: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._has_served = False
        self._password = ""

    @property
    def pid(self) -> int | None:
        """Of the postmaster; None while it does not run."""
        return self._child.pid if self._child and self._child.poll() is None else None

    @property
    def child(self) -> subprocess.Popen[bytes]:
        """The process, for who wants to wait for its end."""
        if self._child is None:
            raise EmbeddedError("Postgres was not started")
        return self._child

    @property
    def url(self) -> str:
        """For asyncpg and libpq alike; without TLS, which would look for key files in HOME."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The address of another database of this server."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/{database}?sslmode=disable"

    @property
    def log(self) -> Path:
        return self._home / "postgres.log"

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def start(self) -> str:
        """Make the cluster if need be, run it, and give its address once it answers.

        EmbeddedError, with the last lines of the log, when that is impossible.
        """
        if self.pid is not None:
            return self.url
        self._settle()
        with lease(self._home / "lock", self._orphans) as handle:
            if not self._data.exists():
                self._initialise()
            self._password = (self._home / "password").read_text().strip()
            self._port = self._port or ports.kept_port(self._home / "port")
            self._configure()
            self._spawn(handle)
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            if not self._has_served:
                self._port = 0  # nobody knows it yet; perhaps it was taken between choice and use
            raise
        self._has_served = True
        return self.url

    def stop(self) -> None:
        """End it in order; returns when it is gone. Stopping twice is fine."""
        if self._child is not None:
            process.stop(self._child, STOP_STEPS)

    def _settle(self) -> None:
        """Find who runs it, and where that one can reach both binaries and database."""
        self._given_home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._home = self._given_home.resolve()  # a link when the database had to lie elsewhere
        install = binaries.postgres_install()
        candidate = process.OURSELVES
        for candidate in identity.candidates(self._given_home):
            identity.give(self._home, candidate)
            if identity.can_run(candidate, install) and identity.can_write(candidate, self._home):
                self._identity, self._install = candidate, install
                return
        if candidate.uid < 0:
            raise EmbeddedError(f"cannot run Postgres in {self._home}; is the folder yours, and writable?")
        self._identity = candidate
        self._move(install)

    def _move(self, install: Path) -> None:
        """Root, and `nobody` cannot enter our folders: go to a place where it can, with a link here."""
        SHARED_PLACE.mkdir(parents=True, exist_ok=True, mode=0o755)
        if not identity.can_run(self._identity, install):
            install = identity.copy_install(install, SHARED_PLACE / f"postgres-{_digest(install)}")
        self._install = install
        if not identity.can_write(self._identity, self._home):
            self._home = SHARED_PLACE / f"data-{_digest(self._given_home)}"
            if self._home.exists():
                raise EmbeddedError(f"{self._home} belongs to a folder that is gone; move it away")
            shutil.move(self._given_home, self._home)
            self._given_home.symlink_to(self._home)
        identity.give(self._home, self._identity)
        if not (identity.can_run(self._identity, install) and identity.can_write(self._identity, self._home)):
            raise EmbeddedError(
                "Postgres refuses to run as root, and no other identity works here; "
                "start as an ordinary user, or give --database-url"
            )

    def _orphans(self) -> list[int]:
        """Backends whose postmaster was killed; none while a postmaster lives there."""
        at_work = working_in(self._data)
        try:
            postmaster = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return []
        return [] if postmaster in at_work else at_work

    def _initialise(self) -> None:
        """A new cluster, complete or not there at all: it gets its name when everything is done."""
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = self._home / "password"
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
        if self._identity.uid > 0:
            os.chown(password, self._identity.uid, self._identity.gid)
        self._run(
            "initdb",
            *("-D", str(fresh), "-U", USER, "-E", "UTF8", "--pwfile", str(password)),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *("--auth=scram-sha-256", "--no-instructions", "--no-sync"),
        )
        single = ("--single", "-D", str(fresh), "-c", "log_min_messages=error", "postgres")
        self._run("postgres", *single, stdin=f"CREATE DATABASE {DATABASE}\n")
        if self._durable:
            self._run("initdb", "--sync-only", "-D", str(fresh))
        fresh.rename(self._data)

    def _run(self, tool: str, *arguments: str, stdin: str = "") -> None:
        """One of Postgres' own tools, to its end."""
        with self.log.open("ab") as log:
            command = [str(self._install / "bin" / tool), *arguments]
            child = process.spawn(
                command, env=_environment(), output=log, stdin=subprocess.PIPE, identity=self._identity
            )
            try:
                child.communicate(stdin.encode(), timeout=INITDB_WAIT_S)
            except BaseException:
                child.kill()
                child.wait()
                raise
        if child.returncode:
            raise with_log_tail(f"Postgres' {tool} ended with status {child.returncode}", self.log)

    def _configure(self) -> None:
        """Our two files, and no trace of a predecessor: the lease has proved that none is running."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        (self._data / "postgresql.conf").write_text(postgresql_conf(self._settings, self._port))
        (self._data / "pg_hba.conf").write_text(pg_hba_conf())
        (self._data / "local.conf").touch()
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _spawn(self, handle: int) -> None:
        with self.log.open("ab") as log:
            self._child = process.spawn(
                [str(self._install / "bin" / "postgres"), "-D", str(self._data)],
                env=_environment(),
                output=log,
                pass_fds=[handle],
                death_signal=signal.SIGQUIT,  # the postmaster then ends its children before itself
                identity=self._identity,
            )

    def _wait_ready(self) -> None:
        """The server says so itself, in the last line of postmaster.pid."""
        deadline = monotonic_s() + READY_WAIT_S
        note = self._data / "postmaster.pid"
        while monotonic_s() < deadline:
            if self.child.poll() is not None:
                raise with_log_tail("Postgres did not start", self.log)
            try:
                lines = note.read_text().split("\n")
            except OSError:
                lines = []
            if len(lines) > 7 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready":
                return
            time.sleep(READY_POLL_S)
        raise with_log_tail(f"Postgres was not ready after {READY_WAIT_S:.0f} s", self.log)


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


def _environment() -> dict[str, str]:
    """Nothing of ours: a stray PGDATA, PGPORT or LC_ALL must not change what the server does."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
