"""Start everything, watch it, stop it in order.

Start: stores (together) → migrations → workers and backend → healthy → simulators.
Stop: simulators (drain) → backend → workers → stores; each group is given its time, and while one is being
stopped the others are still kept alive, because it may need them to finish.

A second signal means haste: every remaining step is given half a second.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from apps.up.announce import Announcer
from apps.up.options import Options, RefusedError, child_environment
from apps.up.part import Part, Plan
from apps.up.plans import Processes, store_plan
from apps.up.ready import wait_until_ready
from apps.up.run_file import RunFile
from apps.up.terminal import Terminal
from tracehub.runtime.embedded import EmbeddedError, Postgres, Valkey
from tracehub.runtime.logging import masked, printable
from tracehub.storage.postgres.migrate import migrate

READY_WAIT_S = 60.0
LAST_LINE_CHARACTERS_MAX = 120
EARLY_DEATHS_MAX = 3  # a part that dies so often before everything was ready will not be ready
STOP_ORDER = (("simulator",), ("backend",), ("worker",), ("redis", "buffer_redis", "postgres"))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """One run of `tracehub up`, from the first process to the last."""

    def __init__(self, options: Options, terminal: Terminal) -> None:
        self._options, self._terminal = options, terminal
        self._parts: list[Part] = []
        self._stop_wanted, self._hurry = asyncio.Event(), asyncio.Event()
        self._gave_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready = False
        self._run_file: RunFile | None = None
        self._announcer: Announcer | None = None
        self._watching: asyncio.Task[None] | None = None
        self._processes: Processes | None = None
        # Children die with the thread that started them, so these threads live as long as we do.
        self._executor = ThreadPoolExecutor(max_workers=8, thread_name_prefix="start")

    async def run(self) -> int:
        """Until a signal comes: exit status 0; 1 when not everything could be started."""
        for number in SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # `nohup`: the terminal may go
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)
        try:
            if await self._unless_stopped(self._start()):
                self._ready = True
                self._welcome()
                await self._stop_wanted.wait()
            return 0
        except (RefusedError, EmbeddedError) as error:
            self._terminal.say(str(error), style="red")
            return 1
        finally:
            await self._stop()

    # What the parts tell us

    def started(self, part: Part) -> None:
        """A part runs (again)."""
        if part.deaths and part.role != "worker":
            self._terminal.event(part.name, "is running again")
        elif part.deaths:
            self._terminal.event(part.name, "was started again")
        self._write_run_file()

    def died(self, part: Part, status: int | None, pause_s: float) -> None:
        """A part ended without having been asked to."""
        self._write_run_file()
        when = f"starting it again in {pause_s:g} s" if pause_s else "starting it again"
        self._terminal.event(part.name, f"{self._ending(part, status)}; {when}", "warning")
        if part.role == "worker" and self._announcer is not None:
            self._announcer.crashed(part.name, round(pause_s * 1000))
        if not self._ready and part.deaths >= EARLY_DEATHS_MAX and not self._gave_up.done():
            self._gave_up.set_exception(RefusedError(self._hint(part.name)))

    # Start

    async def _start(self) -> None:
        options = self._options
        stores = await self._start_stores()
        self._announcer = Announcer(stores["TRACEHUB_REDIS_URL"])
        self._run_file = RunFile(
            options.data_dir / "run.json",
            {
                "http": options.http,
                "database_url": stores["TRACEHUB_DATABASE_URL"],
                "redis_url": stores["TRACEHUB_REDIS_URL"],
                "buffer_redis_url": stores["TRACEHUB_BUFFER_REDIS_URL"],
            },
        )
        await self._migrate(stores["TRACEHUB_DATABASE_URL"])
        processes = Processes(options, child_environment(options, stores), self._terminal)
        self._processes = processes
        workers = [processes.worker(index) for index in range(options.workers)]
        self._watching = asyncio.create_task(self._announcer.run([plan.name for plan in workers]))
        await self._start_parts([processes.backend(), *workers])
        try:
            async with asyncio.timeout(READY_WAIT_S):
                await wait_until_ready(options.reachable_host, options.port)
        except TimeoutError:
            raise RefusedError(self._hint("backend", f"not ready after {READY_WAIT_S:.0f} s")) from None
        await self._start_parts([processes.simulator(index) for index in range(options.simulators)])

    async def _start_stores(self) -> dict[str, str]:
        """Embed what no address was given for; the exact addresses, by the children's variables."""
        options, folder = self._options, self._options.data_dir
        given = {
            "postgres": ("TRACEHUB_DATABASE_URL", options.database_url),
            "redis": ("TRACEHUB_REDIS_URL", options.redis_url),
            "buffer_redis": ("TRACEHUB_BUFFER_REDIS_URL", options.buffer_redis_url),
        }
        embedded: dict[str, Postgres | Valkey] = {
            "postgres": Postgres(folder / "postgres"),
            "redis": Valkey(folder / "redis", durable=False),
            "buffer_redis": Valkey(folder / "buffer-redis", durable=True),
        }
        wanted = [role for role, (_, url) in given.items() if not url]
        await self._start_parts([store_plan(role, embedded[role]) for role in wanted])
        return {name: url or embedded[role].url for role, (name, url) in given.items()}

    async def _start_parts(self, plans: list[Plan]) -> None:
        fresh = [Part(plan, self._executor, self, self._hurry) for plan in plans]
        self._parts += fresh
        for outcome in await asyncio.gather(*(part.start() for part in fresh), return_exceptions=True):
            if isinstance(outcome, OSError):
                raise RefusedError(f"cannot start a process: {outcome}") from outcome
            if isinstance(outcome, BaseException):
                raise outcome

    async def _migrate(self, url: str) -> None:
        try:
            await migrate(url)
        except (
            Exception
        ) as error:  # whatever it is, the person must read it, and nothing may run on such a base
            reason = str(error) or type(error).__name__
            raise RefusedError(f"cannot prepare the database {masked(url)}: {printable(reason)}") from error

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do the work; False when a signal came first, and what giving up raises."""
        task = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop_wanted.wait())
        any_of: set[asyncio.Future[Any]] = {task, stop, self._gave_up}
        await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, RefusedError, EmbeddedError):
                await task
            if self._gave_up.done():
                await self._gave_up
            return False
        await task
        return True

    # Stop

    def _signalled(self) -> None:
        if self._stop_wanted.is_set():
            self._hurry.set()
        self._stop_wanted.set()

    async def _stop(self) -> None:
        if self._parts:
            self._terminal.say("Stopping … (once more to hasten)")
        for roles in STOP_ORDER:
            await asyncio.gather(*(part.stop() for part in self._parts if part.role in roles))
            self._write_run_file()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        if self._announcer is not None:
            await self._announcer.close()
        if self._run_file is not None:
            self._run_file.remove()
        self._executor.shutdown()
        if self._ready:
            self._terminal.say("Stopped. The next start goes on from here.")

    # Words

    def _write_run_file(self) -> None:
        if self._run_file is not None:
            with suppress(OSError):  # a full disk must not end the supervisor
                self._run_file.write(self._parts)

    def _welcome(self) -> None:
        options = self._options
        embedded = [part.name for part in self._parts if part.role in STOP_ORDER[-1]]
        say = self._terminal.say
        say(f"TraceHub is running at {options.http}", style="bold")
        say(f"  embedded   {', '.join(embedded) or 'nothing'}")
        say(f"  running    backend, {options.workers} workers, {options.simulators} simulators")
        say(f"  data       {options.data_dir}  (addresses and process ids: run.json; logs: logs/)")
        say("  Ctrl-C stops everything in order.")

    def _hint(self, name: str, what: str = "") -> str:
        """What went wrong with a part, the end of its log, and where the rest is."""
        log = self._processes.logs.get(name) if self._processes else None
        if log is None:
            return f"{name}: {what or 'could not be started'}"
        lines = "".join(f"\n  {line}" for line in log.tail())
        return f"{name}: {what or 'dies again and again'}; its log is {log.path}{lines}"

    def _ending(self, part: Part, status: int | None) -> str:
        """How a process ended, in words."""
        if status is None:
            return (
                f"did not start: {part.last_error.splitlines()[0] if part.last_error else 'unknown reason'}"
            )
        if status < 0:
            try:
                return f"was killed by {signal.Signals(-status).name}"
            except ValueError:
                return f"was killed by signal {-status}"
        log = self._processes.logs.get(part.name) if self._processes else None
        last = f" ({log.tail()[-1][:LAST_LINE_CHARACTERS_MAX]})" if status and log and log.tail() else ""
        return f"ended with status {status}{last}"
