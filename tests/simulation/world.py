"""One world: production protocol and use cases over memory adapters, and everything that can go wrong.

Producers are the SDK's own window and backlog on the SDK's memory buffer. The door, two workers and the
replayer are coroutines of production code, stepped by hand, so each can be ended between any two awaits. The
network drops, repeats, delays and reorders; the queue forgets; the database goes away in the middle of a
commit; buffers come back older or not at all; clocks jump. `check` runs after every step.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from tests.making import NOW_MS
from tests.simulation.scheduler import Process, Scheduler
from tracehub.pipeline.proof import prove
from tracehub.pipeline.recount import recount
from tracehub.pipeline.replay import replay
from tracehub.pipeline.signoff import supersede
from tracehub.pipeline.store import Marks, Moment, store
from tracehub.protocol import ranges as r
from tracehub.protocol.ack import ack_till
from tracehub.protocol.entries import parse_batch
from tracehub.protocol.errors import REFUSALS, TraceHubError, Transient, Unavailable
from tracehub.protocol.ids import ID_BASE_RANDOM_BYTES, id_base
from tracehub.protocol.messages import Job, Mark, MarkedStream, Receipt, Request, StreamKey
from tracehub.protocol.ranges import EMPTY
from tracehub.protocol.reply import queued_reply, stored_reply
from tracehub.storage.memory.buffers import MemoryBuffers, View
from tracehub.storage.memory.ledger import MemoryLedger
from tracehub.storage.memory.queue import MemoryQueue
from tracehub.storage.ports import in_flight_by_stream
from tracehub.storage.redis.keys import ZERO_TENANT
from tracehub_sdk import buffer as b
from tracehub_sdk import messages as m
from tracehub_sdk import wire
from tracehub_sdk.backlog import Backlog
from tracehub_sdk.delivery import as_command, as_event
from tracehub_sdk.memory import MemoryBuffer, State
from tracehub_sdk.window import Limits, Window

SERVICE = "svc"
LIMITS = Limits(batch_entries_max=7, timeout_ms=600, backoff_ms=20, backoff_max_ms=200, probe_ms=100)
LEASE_MS = 300
STATUS = {
    "unavailable": 503,
    "overloaded": 429,
    "too_many_gaps": 429,
    "invalid_json": 400,
    "invalid_field": 400,
}


@dataclass(frozen=True)
class Weather:
    """What may go wrong in a world. Durable buffers promise more, so more is checked."""

    older_buffers: bool = False
    poison: bool = False


@dataclass
class Instance:
    """One producer process: what it remembers, and its window."""

    name: str
    backlog: Backlog = field(init=False)
    window: Window = field(init=False)
    alive: bool = True

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.name)
        self.window = Window(LIMITS)


class World:
    """See the module. `calm` ends all mischief, so that everything must come to its end."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.rng = random.Random(seed)
        self.weather = weather
        self.now = 0.0
        self.calm = False
        self.scheduler = Scheduler(self.rng)
        self.database_down_till = -1.0
        self.clock_skew_ms = 0
        self.store = MemoryBuffer()
        self.buffer_unreachable = False
        self.ledger = MemoryLedger(
            pause=self._ledger_pause, now_ms=self.wall_ms, refuses=lambda e: "poison" in e.message
        )
        self.queue = MemoryQueue(self.scheduler.pause, self.wall_ms, entries_max=200)
        self.queue.on_receipt = self._hear
        self.buffers = MemoryBuffers(self._look, self.scheduler.pause)
        self.receipts: dict[str, Receipt] = {}
        self.network: list[tuple[float, Instance, Any, Any]] = []
        self.instances = [Instance(f"p{i}") for i in range(2)]
        self.names = 0
        self.promised: set[str] = set()
        self.snapshot: State | None = None
        self.told: dict[StreamKey, int] = {}  # greatest ackTill that any reply held
        self.ack_till: dict[StreamKey, int] = {}
        self._checked: tuple[object, ...] = ()
        self._told_sum = 0
        for i in range(2):
            self.scheduler.start(f"worker-{i}", self._worker())
        self.scheduler.start("replayer", self._replayer())

    def wall_ms(self) -> int:
        """The time as the stores see it."""
        return NOW_MS + int(self.now)

    async def _ledger_pause(self) -> None:
        await self.scheduler.pause()
        if self.now < self.database_down_till:
            raise Transient("the database is away")

    def _hear(self, backend: str, receipt: Receipt) -> None:
        if self.calm or self.rng.random() < 0.8:
            self.receipts[receipt.job_id] = receipt

    def _look(self, tenant_id: str, service: str) -> View:
        if self.buffer_unreachable:
            raise Transient("out of reach")
        state = self.store.state
        return state.meta, {seq: member.encode() for seq, member in state.members.items()}

    def _random(self, size: int) -> bytes:
        return self.rng.randbytes(size)

    # ------------------------------------------------------------------ the server

    def _marks_beside(self, own: set[str]) -> Marks:
        async def others() -> list[Mark]:
            return [mark for job_id, mark in (await self.queue.marks()).items() if job_id not in own]

        return others

    async def _worker(self) -> None:
        while True:
            await self.scheduler.pause()
            group = [job for _ in range(self.rng.randrange(1, 4)) if (job := self.queue.claim(LEASE_MS))]
            if not group:
                continue
            try:
                own = {job.id for job in group}
                requests = [request for job in group for request in job.requests]
                stored = await store(
                    self.ledger, requests, Moment(self._marks_beside(own), self.wall_ms(), 50)
                )
                outcomes = iter(stored.outcomes)
                receipts = [(job, Receipt(job.id, [next(outcomes) for _ in job.requests])) for job in group]
                await self.queue.settle(receipts)
            except Transient:
                continue
            await self.scheduler.pause()
            for job in group:
                self.queue.finish(job.id)

    async def _replayer(self) -> None:
        while True:
            await self.scheduler.pause()
            try:
                for stream in await self.ledger.streams_with_due_replays():
                    await replay(
                        self.ledger, self.buffers, self.queue, stream,
                        now_ms=self.wall_ms(), random=self._random, gap_ranges_max=50,
                    )  # fmt: skip
                await supersede(self.ledger, self.queue)
            except Transient:
                continue

    async def _door(self, one: Instance, send: m.Send) -> None:
        """POST /ingest, from the bytes of the request to the bytes of the answer."""
        body = wire.ingest(SERVICE, send).body
        try:
            status, answer = await self._ingest(body)
        except TraceHubError as refusal:
            status = STATUS.get(refusal.code, 500)
            answer = {"error": {"code": refusal.code, "message": refusal.message, "field": refusal.field}}
        if status == 200:
            stream = StreamKey(ZERO_TENANT, SERVICE, send.epoch)
            numbers = r.of_numbers(seq for seq, _ in send.entries)
            s = self.ledger.streams[self.ledger.ids[stream]]
            assert not s.unresolved(numbers, EMPTY), "a batch was called stored before its commit"
            counted = answer["accepted"] + answer["duplicates"] + answer["conflicts"]
            assert counted == len(send.entries), "the counts of a reply do not add up"
            self.told[stream] = max(self.told.get(stream, 0), answer["ackTill"])
        response = wire.Response(status, {}, json.dumps(answer).encode())
        self._send_back(one, send, wire.read_reply(send, response))

    async def _ingest(self, body: bytes) -> tuple[int, dict[str, Any]]:
        batch = parse_batch(body, self.wall_ms() + self.clock_skew_ms)
        stream = StreamKey(ZERO_TENANT, batch.service, batch.epoch)
        base = id_base(self.wall_ms(), self._random(ID_BASE_RANDOM_BYTES))
        request = Request(
            stream, "ingest", batch.service, "b", base, batch.ranges, batch.entries, batch.start, batch.lost
        )
        self.names += 1
        job = Job(1, f"job-{self.names}", "backend", [request])
        mark = Mark((MarkedStream(stream, batch.ranges),), len(batch.entries), len(body), self.wall_ms())
        await self.queue.enqueue(job, mark)
        for patience in range(self.rng.choice([2, 40, 40, 40])):
            await self.scheduler.pause()
            receipt = self.receipts.pop(job.id, None)
            if receipt is not None:
                outcome = receipt.outcomes[0]
                if outcome.refused:
                    raise REFUSALS[outcome.refused]
                return 200, stored_reply(request, outcome)
            if patience % 8 == 7:
                marked = await self.queue.is_marked(job.id)
                recounted = await recount(self.ledger, self.queue, request)
                if recounted is not None:
                    return 200, stored_reply(request, recounted)
                if not marked:
                    raise Unavailable
        marks = (await self.queue.marks()).values()
        in_flight = in_flight_by_stream(marks, {stream: 0}).get(0, EMPTY)
        return 202, queued_reply(request, await self.ledger.state(stream, in_flight))

    async def _ack(self, one: Instance, probe: m.Probe) -> None:
        """GET /ack/{service}."""
        try:
            epochs = await self.ledger.epochs(ZERO_TENANT, SERVICE)
            epoch = probe.epoch if probe.epoch is not None else (epochs[-1] if epochs else -1)
            if epoch not in epochs:
                response = wire.Response(404, {}, b'{"error": {"code": "unknown_service"}}')
            else:
                stream = StreamKey(ZERO_TENANT, SERVICE, epoch)
                marks = (await self.queue.marks()).values()
                in_flight = in_flight_by_stream(marks, {stream: 0}).get(0, EMPTY)
                state = await self.ledger.state(stream, in_flight)
                assert state is not None
                answer = {
                    "epoch": epoch, "ackTill": state.ack_till, "highestSeen": state.highest_seen,
                    "missingRanges": state.gaps.ranges,
                }  # fmt: skip
                response = wire.Response(200, {}, json.dumps(answer).encode())
        except Transient:
            response = wire.Response(503, {}, b"{}")
        following = self.store.execute(b.Load()).numbering
        self._send_back(one, probe, wire.read_ack(probe, response, following.next if following else 0))

    # ------------------------------------------------------------------ the producers

    def append(self, one: Instance) -> None:
        """The application says something."""
        count = self.rng.randrange(1, 6)
        texts = [f"e{self.names + i}" for i in range(count)]
        if self.weather.poison and self.rng.random() < 0.1:
            texts[0] += " poison"
        self.names += count
        ticket = one.backlog.add([f'"ts":{NOW_MS},"level":"info","message":"{text}"}}' for text in texts])
        self._write(one)
        if ticket.state == "stored":
            self.promised.update(texts)

    def _write(self, one: Instance) -> None:
        while command := one.backlog.take(self.wall_ms()):
            self._write_one(one, command)
        if one.backlog.losses:
            self.store.execute(b.NoteLost(tuple(one.backlog.losses)))
            one.backlog.losses.clear()

    def _write_one(self, one: Instance, command: b.Append) -> None:
        if not self.calm and self.rng.random() < 0.1:
            self.store.execute(command)  # carried out, but the answer is lost: repeated below
            one.backlog.failed()
            command = one.backlog.take(0) or command
        one.backlog.done(command, self.store.execute(command))

    def turn(self, one: Instance) -> None:
        """The sender's loop, once."""
        self.store.now_ms = self.now
        if not self.store.execute(b.Lease(one.name, LEASE_MS)):
            one.window.handle(m.BufferLost(), self.now, 0.5)
            return
        read = self.store.execute(b.Load())
        if read.numbering is None and one.backlog.remembered:
            touch = one.backlog.touch(self.wall_ms())
            if touch:
                self._write_one(one, touch)
                self._write(one)
        self.feed(one, m.Peeked(read.numbering, read.lost))

    def feed(self, one: Instance, event: m.Event) -> None:
        """One event into a window, and what it asks for."""
        actions = one.window.handle(event, self.now, self.rng.random())
        while actions:
            action = actions.pop(0)
            if isinstance(action, (m.Send, m.Probe)):
                for _ in range(1 if self.calm else self.rng.choice([0, 1, 1, 1, 1, 2])):
                    self.network.append((self._later(), one, action, None))
                continue
            command = as_command(action, one.name, self.wall_ms())
            said = as_event(action, self.store.execute(command)) if command else None
            if said:
                actions += one.window.handle(said, self.now, self.rng.random())

    def _later(self) -> float:
        return self.now + self.rng.random() * (20 if self.calm else 80)

    def _send_back(self, one: Instance, action: Any, answer: Any) -> None:
        if self.calm or self.rng.random() < 0.9:
            self.network.append((self._later(), one, action, answer))

    def _arrive(self, one: Instance, action: Any, answer: Any) -> None:
        if answer is not None:
            if one.alive:
                self.feed(one, answer)
        elif isinstance(action, m.Probe):
            self.scheduler.start("ack", self._ack(one, action))
        else:
            self.scheduler.start("door", self._door(one, action))

    # ------------------------------------------------------------------ what goes wrong

    def mischief(self) -> None:
        """At most one misfortune a step; each has its weight in a thousand steps."""
        misfortunes = (
            (10, self._a_worker_crashes),
            (4, self._the_replayer_crashes),
            (4, self._the_backend_crashes),
            (4, self.queue.forget),
            (8, self.queue.sweep),
            (4, self._the_database_goes_away),
            (6, self._a_producer_crashes),
            (3, self._a_clock_jumps),
            (3, self._the_buffer_goes_out_of_reach_or_comes_back),
            (4, self._time_passes),
            (20, self._somebody_saves_the_buffer),
            (4 if self.weather.older_buffers else 0, self._buffer_comes_back_older),
        )
        roll = self.rng.random() * 1_000
        for weight, happens in misfortunes:
            if roll < weight:
                happens()
                return
            roll -= weight

    def _a_worker_crashes(self) -> None:
        self._crash_and_restart(self.rng.choice(self.scheduler.named("worker-")), self._worker)

    def _the_replayer_crashes(self) -> None:
        for process in self.scheduler.named("replayer"):
            self._crash_and_restart(process, self._replayer)

    def _the_backend_crashes(self) -> None:
        for process in (*self.scheduler.named("door"), *self.scheduler.named("ack")):
            self.scheduler.crash(process)  # and everybody's request with it

    def _the_database_goes_away(self) -> None:
        self.database_down_till = self.now + self.rng.random() * 300

    def _a_producer_crashes(self) -> None:
        victim = self.rng.randrange(2)
        self.instances[victim].alive = False
        self.instances[victim] = Instance(f"p{self.names}-{self.now}")

    def _a_clock_jumps(self) -> None:
        self.clock_skew_ms = self.rng.choice([0, -5_000, 60_000, 3_600_000])

    def _the_buffer_goes_out_of_reach_or_comes_back(self) -> None:
        self.buffer_unreachable = not self.buffer_unreachable

    def _time_passes(self) -> None:
        self.now += self.rng.choice([500, 5_000, 30_000])

    def _somebody_saves_the_buffer(self) -> None:
        self.snapshot = self.store.copy()

    def _crash_and_restart(self, process: Process, run: Any) -> None:
        self.scheduler.crash(process)
        self.scheduler.start(process.name, run())

    def _buffer_comes_back_older(self) -> None:
        """From here on only what the buffer holds, and what is stored, is promised."""
        self.store.state = self.snapshot if self.snapshot and self.rng.random() < 0.7 else State()
        self.store.state.said.clear()
        self.snapshot = None
        held = str(self.store.state.members)
        stored = self.stored_texts()
        self.promised = {t for t in self.promised if f'"message":"{t}"' in held or t in stored}
        if self.rng.random() < 0.7:  # the whole machine went down: nobody remembers the numbers
            for i, one in enumerate(self.instances):
                one.alive = False
                self.instances[i] = Instance(f"r{self.now}-{i}")
            for _ in range(self.rng.choice([0, 0, 1, 5, 20])):
                self.append(self.instances[0])

    # ------------------------------------------------------------------ what must hold

    def stored_texts(self) -> list[str]:
        """The messages of all rows."""
        return [row.entry.message for row in self.ledger.rows.values()]

    def set_aside(self) -> set[str]:
        """The messages of all dead letters: signed off, and kept."""
        return {letter.entry.message for letter in self.ledger.letters.values()}

    def check(self) -> None:
        """After every step; what did not change since the last one need not be looked at again."""
        state = self.store.state
        seen = (
            self.ledger.version,
            len(state.members),
            state.meta.get("next"),
            len(state.lost),
            len(self.told),
        )
        if seen != self._checked or sum(self.told.values()) != self._told_sum:
            self._checked, self._told_sum = seen, sum(self.told.values())
            self._check()

    def _check(self) -> None:
        rows: dict[int, set[int]] = {}
        for stream_id, seq in self.ledger.rows:
            rows.setdefault(stream_id, set()).add(seq)
        for stream_id, s in self.ledger.streams.items():
            now = ack_till(s.received, s.lost)
            assert now >= self.ack_till.get(s.key, 0), "ackTill fell"
            self.ack_till[s.key] = now
            assert now >= self.told.get(s.key, 0), "a reply acknowledged more than is committed"
            assert r.of_numbers(rows.get(stream_id, ())) == s.received, "ledger and rows differ"
            assert not r.intersect(s.received, s.lost), "stored and lost at once"
            signed = r.union(*(loss.ranges for loss in s.losses if not loss.found))
            assert not r.subtract(s.lost, signed), "lost without a signature"
        if not self.weather.older_buffers:
            self._check_every_number()

    def _check_every_number(self) -> None:
        """With durable buffers: stored, lost and signed, or with the producer; each in exactly one."""
        numbering = self.store.execute(b.Load()).numbering
        if numbering is None:
            return
        stream_id = self.ledger.ids.get(StreamKey(ZERO_TENANT, SERVICE, numbering.epoch))
        settled = EMPTY
        if stream_id is not None:
            s = self.ledger.streams[stream_id]
            settled = r.union(s.received, s.lost)
        noted = r.normalise((x.first, x.last) for x in self.store.execute(b.Load()).lost)
        held = r.union(r.of_numbers(self.store.state.members), noted)
        produced = ((1, numbering.next - 1),) if numbering.next > 1 else EMPTY
        assert not r.subtract(produced, r.union(settled, held)), "a number is nowhere"

    def run(self, steps: int) -> None:
        """Live, with everything going wrong."""
        for _ in range(steps):
            self.now += self.rng.random() * 12
            if self.rng.random() < 0.25:
                self.append(self.rng.choice(self.instances))
            self.mischief()
            self._advance(self.rng.randrange(1, 12))

    def _advance(self, coroutine_steps: int) -> None:
        self.store.now_ms = self.now
        due = sorted((x for x in self.network if x[0] <= self.now), key=lambda x: x[0])
        self.network = [x for x in self.network if x[0] > self.now]
        for _, one, action, answer in due:
            self._arrive(one, action, answer)
        for one in self.instances:
            self.turn(one)
        for _ in range(coroutine_steps):
            self.scheduler.step()
            self.check()

    def settle(self) -> None:
        """The weather clears: everything must come to its end."""
        self.calm, self.buffer_unreachable = True, False
        self.database_down_till, self.clock_skew_ms = -1.0, 0
        for turn in range(4_000):
            self.now += 30
            if turn % 10 == 0:
                self.queue.sweep()
            self._advance(12)
            if turn % 20 == 0 and self._at_rest():
                break
        assert self._at_rest(), "it never came to rest"
        assert not self.promised - set(self.stored_texts()) - self.set_aside()

    def _at_rest(self) -> bool:
        state = self.store.state
        whole = all(not s.missing(EMPTY) for s in self.ledger.streams.values())
        return not state.members and not state.lost and not self.queue.inflight and whole

    def proof(self) -> dict[str, Any]:
        """The proof, by the production use case."""
        process = Process("proof", self._prove())
        while process.step():
            pass
        return self._proof

    async def _prove(self) -> None:
        self._proof = await prove(self.ledger, self.buffers, self.queue, tenant_id=ZERO_TENANT)
