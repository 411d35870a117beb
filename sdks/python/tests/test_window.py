"""The window: tables of what it asks for, and a seeded world that loses, repeats, reorders and forgets."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sdk_model_server import ModelServer, Refusal

from tracehub_sdk import buffer as b
from tracehub_sdk import messages as m
from tracehub_sdk import wire
from tracehub_sdk.backlog import Backlog, Ticket
from tracehub_sdk.delivery import as_command, as_event
from tracehub_sdk.memory import MemoryBuffer, State
from tracehub_sdk.window import Limits, Window

EPOCH = 1_700_000_000_000


# ------------------------------------------------------------------ tables


class Desk:
    """A window whose buffer answers at once and whose requests lie on the desk."""

    def __init__(self, entries: int, **options: Any) -> None:
        self.store = MemoryBuffer()
        self.window = Window(**options)
        self.now = 1000.0
        self.tokens = 0
        self.sends: list[m.Send] = []
        self.probes: list[m.Probe] = []
        self.other: list[m.Action] = []
        self.append(entries)
        self.store.execute(b.Lease("me", 10**12))
        self.feed(m.Peeked(self.store.execute(b.Load()).numbering))

    def append(self, entries: int) -> None:
        for begin in range(0, entries, 500):
            tails = [f'"message":"m{i}"}}' for i in range(begin, min(entries, begin + 500))]
            self.tokens += 1
            self.store.execute(b.Append(tails, "i", str(self.tokens), EPOCH))

    def feed(self, event: m.Event, random_: float = 0.5) -> None:
        actions = self.window.handle(event, self.now, random_)
        while actions:
            action = actions.pop(0)
            if isinstance(action, m.Send):
                self.sends.append(action)
            elif isinstance(action, m.Probe):
                self.probes.append(action)
            else:
                self.other.append(action)
                command = as_command(action, "me", EPOCH)
                said = as_event(action, self.store.execute(command)) if command else None
                if said:
                    actions += self.window.handle(said, self.now, random_)

    def known(self, **answer: Any) -> None:
        probe = self.probes.pop(0)
        self.feed(m.Known(probe.probe_id, answer.pop("epoch", EPOCH), **answer))

    def tick(self, ms: float) -> None:
        self.now += ms
        self.feed(m.Tick())

    def seqs(self) -> list[tuple[int, int]]:
        """First and last number of the requests on the desk."""
        return [(send.entries[0][0], send.entries[-1][0]) for send in self.sends]

    def reply(self, index: int, ack_till: int, **rest: Any) -> None:
        send = self.sends.pop(index)
        self.feed(m.Replied(send.send_id, send.epoch, ack_till, **rest))

    def refuse(self, which: int, status: int, **rest: Any) -> m.Send:
        send = self.sends.pop(which)
        self.feed(m.Refused(send.send_id, status, "because", **rest))
        return send


def ready(entries: int, **options: Any) -> Desk:
    desk = Desk(entries, **options)
    desk.known(epoch=None)
    desk.tick(60)
    return desk


def test_asks_the_server_before_it_sends() -> None:
    """The numbering is compared first; then full batches leave, the rest after 50 ms."""
    desk = Desk(700)
    assert (len(desk.probes), desk.sends) == (1, [])
    desk.known(epoch=None)
    assert desk.seqs() == [(1, 500)]
    desk.tick(49)
    assert desk.seqs() == [(1, 500)]
    desk.tick(2)
    assert desk.seqs() == [(1, 500), (501, 700)]


def test_four_requests_are_out() -> None:
    """A fifth leaves when one came back."""
    desk = ready(3000)
    assert len(desk.sends) == 4
    desk.reply(0, 500)
    assert desk.seqs()[-1] == (2001, 2500)


def test_trims_only_what_was_carried() -> None:
    """An acknowledgement above what this session sent trims nothing more."""
    desk = ready(600)
    desk.reply(1, 600)
    assert desk.window.trimmed == 0
    desk.reply(0, 600)
    assert desk.window.trimmed == 600


def test_greatest_ack_counts() -> None:
    """Replies may overtake each other."""
    desk = ready(1000)
    desk.reply(1, 1000)
    desk.reply(0, 300)
    assert desk.window.ack_till == desk.window.trimmed == 1000


def test_older_buffer_at_start_is_renumbered() -> None:
    """The server has seen numbers that this buffer has yet to give."""
    desk = Desk(10)
    desk.known(ack_till=20, highest_seen=20, next=11)
    assert desk.other == [m.Renumber(EPOCH, 0, EPOCH + 1)]
    desk.tick(1000)
    desk.known(epoch=EPOCH, ack_till=20, highest_seen=20)
    desk.tick(60)
    assert (desk.sends[0].epoch, desk.seqs()) == (EPOCH + 1, [(1, 10)])


def test_newer_epoch_at_the_server_is_renumbered() -> None:
    """The buffer came back from before a change of epoch."""
    desk = Desk(3)
    desk.known(epoch=EPOCH + 9, highest_seen=1)
    assert desk.other == [m.Renumber(EPOCH, 0, EPOCH + 10)]


def test_conflict_makes_a_new_epoch_and_trims_nothing() -> None:
    """However high ackTill is."""
    desk = ready(10)
    desk.reply(0, 99, conflicts=1)
    assert desk.other[-1] == m.Renumber(EPOCH, 0, EPOCH + 1)
    assert len(desk.store.state.members) == 10


def test_fixed_numbers_only_count_conflicts() -> None:
    """Line numbers stay what they are."""
    desk = ready(10, renumber=False)
    desk.reply(0, 10, conflicts=2)
    assert (desk.window.counts.conflicts, desk.window.trimmed) == (2, 10)


def test_missing_is_resent_unless_under_way() -> None:
    """A number that is still in flight is not sent twice."""
    desk = ready(1500)
    desk.reply(2, 0, missing=((1, 1000),))
    assert desk.seqs() == [(1, 500), (501, 1000)]
    desk.reply(0, 0, missing=((1, 2), (7, 7)))
    assert desk.seqs()[1:] == [(1, 2), (7, 7)]
    desk.reply(0, 0, missing=((1, 2),))
    assert len(desk.sends) == 2


def test_timeout_repeats_with_backoff() -> None:
    """And the answer that comes after all is still believed."""
    desk = ready(5)
    first = desk.sends.pop()
    desk.tick(desk.window.limits.timeout_ms * 1.2)
    assert m.Cancel(first.send_id) in desk.other
    assert desk.sends == []
    desk.tick(200)
    assert desk.seqs() == [(1, 5)]
    assert desk.sends[0].deadline_ms - desk.now > first.deadline_ms - 1060
    desk.feed(m.Replied(first.send_id, EPOCH, 5))
    desk.reply(0, 5)
    assert desk.window.trimmed == 5


def test_retry_after_is_obeyed() -> None:
    """Nothing leaves before, whatever is waiting; then one request at a time until one succeeds."""
    desk = ready(2000)
    for _ in range(4):
        desk.refuse(0, 429, retry_after_ms=3000)
    desk.tick(2900)
    assert desk.sends == []
    desk.tick(1000)
    assert desk.seqs() == [(1, 500)]
    desk.reply(0, 500)
    assert desk.seqs() == [(501, 1000), (1001, 1500), (1501, 2000)]


def test_too_large_is_halved() -> None:
    """Down to the entry, which is rejected and given up."""
    desk = ready(3)
    desk.refuse(0, 413)
    assert desk.seqs() == [(1, 1), (2, 3)]
    desk.refuse(1, 413)
    assert desk.seqs() == [(1, 1), (2, 2), (3, 3)]
    desk.refuse(1, 413)
    assert m.Reject(EPOCH, 2, "because") in desk.other
    assert desk.sends[-1].lost == (b.Lost(EPOCH, 2, 2, "rejected"),)


def test_bad_entry_is_rejected_by_name() -> None:
    """The rest of its batch leaves at once."""
    desk = ready(5)
    desk.refuse(0, 400, field="batch[2].ts", index=2)
    assert m.Reject(EPOCH, 3, "because") in desk.other
    assert [[seq for seq, _ in send.entries] for send in desk.sends] == [[], [1, 2], [4, 5]]
    assert sorted(desk.store.state.members) == [1, 2, 4, 5]


def test_bad_envelope_rejects_nothing() -> None:
    """A wrong service name is not the entries' fault: wait and repeat."""
    desk = ready(5)
    desk.refuse(0, 400, field="service")
    assert (desk.sends, len(desk.store.state.members)) == ([], 5)
    desk.tick(5000)
    assert desk.seqs() == [(1, 5)]


def test_losses_are_told_until_heard() -> None:
    """A note is repeated until a reply came, then forgotten."""
    desk = ready(2)
    desk.reply(0, 2)
    note = b.Lost(5, 1, 9, "buffer_lost")
    desk.feed(m.Peeked(desk.window.numbering, (note,)))
    assert (desk.sends[0].epoch, desk.sends[0].lost, desk.sends[0].start) == (5, (note,), 0)
    desk.refuse(0, 503)
    desk.tick(1000)
    desk.reply(0, 9)
    assert desk.other[-1] == m.Told((note,))
    assert desk.window.idle


def test_flushed_tail_is_found_by_asking() -> None:
    """A reply said queued, then the queue forgot: nobody would ever name these numbers as missing."""
    desk = ready(5)
    desk.reply(0, 0, queued=5, highest_seen=5)
    assert desk.window.wake_at_ms() == desk.now + desk.window.limits.probe_ms
    desk.tick(1000)
    desk.known(ack_till=0, highest_seen=0)
    assert desk.seqs() == [(1, 5)]


def test_queued_reply_proves_nothing_of_old_numbers() -> None:
    """Only after the commit is it known whether an older buffer's number is in conflict."""
    desk = Desk(5)
    desk.known(ack_till=3, highest_seen=5, next=6)
    desk.tick(60)
    desk.reply(0, 5, queued=5)
    assert desk.window.trimmed == 0
    desk.tick(500)
    desk.reply(0, 5)
    assert desk.window.trimmed == 5


def test_buffer_error_starts_again_from_the_buffer() -> None:
    """What was in flight is asked for once more; the server is compared with again."""
    desk = ready(5)
    desk.feed(m.BufferLost())
    desk.sends.clear()
    desk.tick(500)
    desk.known(ack_till=5, highest_seen=5, next=6)
    desk.tick(60)
    assert desk.seqs() == [(1, 5)]


def test_wake_time_is_when_something_is_due() -> None:
    """With nothing to do there is none."""
    desk = ready(5)
    assert desk.window.wake_at_ms() == desk.sends[0].deadline_ms
    desk.reply(0, 5)
    assert desk.window.wake_at_ms() is None
    desk.append(1)
    desk.feed(m.Peeked(desk.store.execute(b.Load()).numbering))
    assert desk.window.wake_at_ms() == desk.now + desk.window.limits.linger_ms


# ------------------------------------------------------------------ a seeded world


@dataclass
class Instance:
    """One process of the service: what it remembers, and its window."""

    name: str
    limits: Limits
    backlog: Backlog = field(init=False)
    window: Window = field(init=False)
    alive: bool = True

    def __post_init__(self) -> None:
        self.backlog = Backlog(self.name)
        self.window = Window(self.limits)


class World:
    """Two processes, one buffer, one server, and a network that does what it likes. Seeded, no clock."""

    LIMITS = Limits(batch_entries_max=7, timeout_ms=400, backoff_ms=20, backoff_max_ms=200, probe_ms=100)

    def __init__(self, seed: int, *, older: bool) -> None:
        self.random = random.Random(seed)
        self.older = older
        self.now = 0.0
        self.store = MemoryBuffer()
        self.server = ModelServer()
        self.network: list[tuple[float, Instance, m.Send | m.Probe | None, Any]] = []
        self.instances = [Instance(f"p{i}", self.LIMITS) for i in range(2)]
        self.names = 0
        self.promised: set[str] = set()
        self.snapshot: State | None = None
        self.calm = False
        self.last_ack: dict[tuple[str, int], int] = {}

    # what happens

    def append(self, one: Instance) -> None:
        count = self.random.randrange(1, 6)
        texts = [f"e{self.names + i}" for i in range(count)]
        self.names += count
        ticket = one.backlog.add([f'"ts":{EPOCH},"level":"info","message":"{text}"}}' for text in texts])
        self.write(one)
        if ticket.state == "stored":
            self.promised.update(texts)

    def write(self, one: Instance) -> None:
        while command := one.backlog.take(EPOCH + int(self.now)):
            self.write_one(one, command)
        if one.backlog.losses:
            self.store.execute(b.NoteLost(tuple(one.backlog.losses)))
            one.backlog.losses.clear()

    def write_one(self, one: Instance, command: b.Append) -> None:
        if not self.calm and self.random.random() < 0.1:
            self.store.execute(command)  # carried out, but the answer is lost: repeated below
            one.backlog.failed()
            command = one.backlog.take(0) or command
        one.backlog.done(command, self.store.execute(command))

    def turn(self, one: Instance) -> None:
        self.store.now_ms = self.now
        if not self.store.execute(b.Lease(one.name, 300)):
            one.window.handle(m.BufferLost(), self.now, 0.5)
            return
        read = self.store.execute(b.Load())
        if (
            read.numbering is None
            and one.backlog.remembered
            and (touch := one.backlog.touch(EPOCH + int(self.now)))
        ):
            self.write_one(one, touch)
            self.write(one)
        self.feed(one, m.Peeked(read.numbering, read.lost))

    def feed(self, one: Instance, event: m.Event) -> None:
        actions = one.window.handle(event, self.now, self.random.random())
        while actions:
            action = actions.pop(0)
            if isinstance(action, (m.Send, m.Probe)):
                self.transmit(one, action)
                continue
            command = as_command(action, one.name, EPOCH + int(self.now))
            said = as_event(action, self.store.execute(command)) if command else None
            if said:
                actions += one.window.handle(said, self.now, self.random.random())

    def transmit(self, one: Instance, action: m.Send | m.Probe) -> None:
        copies = 1 if self.calm else self.random.choice([0, 1, 1, 1, 1, 2])
        for _ in range(copies):
            self.network.append((self.now + self.random.random() * 60, one, action, None))

    def arrive(self, one: Instance, action: Any, answer: Any) -> None:
        if answer is not None:
            if one.alive:
                self.feed(one, answer)
            return
        answer = self.serve(action)
        if self.calm or self.random.random() < 0.9:
            self.network.append((self.now + self.random.random() * 60, one, action, answer))

    def serve(self, action: m.Send | m.Probe) -> m.Event:
        if isinstance(action, m.Probe):
            following = self.store.execute(b.Load()).numbering
            try:
                body = json.dumps(self.server.ack("s", action.epoch)).encode()
                response = wire.Response(200, {}, body)
            except Refusal as refusal:
                response = wire.Response(404, {}, json.dumps({"error": {"code": refusal.code}}).encode())
            return wire.read_ack(action, response, following.next if following else 0)
        if not self.calm and self.random.random() < 0.1:
            return m.Refused(action.send_id, 503, "", "service", None, 30)
        self.server.queue_only = not self.calm and self.random.random() < 0.2
        return wire.read_reply(
            action,
            wire.Response(200, {}, json.dumps(self.server.ingest(wire.ingest("s", action).body)).encode()),
        )

    def mischief(self) -> None:
        roll = self.random.random()
        if roll < 0.02:
            victim = self.random.randrange(2)
            self.instances[victim].alive = False
            self.instances[victim] = Instance(f"p{self.names}-{victim}-{self.now}", self.LIMITS)
        elif roll < 0.03:
            self.server.waiting.clear()
        elif roll < 0.2:
            self.server.drain()
        elif roll < 0.22:
            self.snapshot = self.store.copy()
        elif roll < 0.23 and self.older:
            self.come_back_older()

    def come_back_older(self) -> None:
        """From here on only what the buffer holds, and what is stored, is promised."""
        self.store.state = self.snapshot if self.snapshot and self.random.random() < 0.7 else State()
        self.store.state.said.clear()
        self.snapshot = None
        self.promised = {t for t in self.promised if f'"message":"{t}"' in str(self.store.state.members)}
        self.promised.update(self.server.messages("s"))
        if self.random.random() < 0.7:  # the whole machine went down: nobody remembers the numbers
            for i, one in enumerate(self.instances):
                one.alive = False
                self.instances[i] = Instance(f"r{self.now}-{i}", self.LIMITS)
            for _ in range(self.random.choice([0, 0, 1, 5, 20, 60])):
                self.append(self.instances[0])

    # what must hold

    def check(self) -> None:
        for key, stream in self.server.streams.items():
            assert stream.ack_till >= self.last_ack.get(key, 0)
            self.last_ack[key] = stream.ack_till
        held = str(self.store.state.members) if self.promised else ""
        stored = set(self.server.messages("s"))
        for text in self.promised - stored:
            assert f'"message":"{text}"' in held, f"{text} is neither stored nor with the producer"

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.now += self.random.random() * 20
            self.store.now_ms = self.now
            if self.random.random() < 0.3:
                self.append(self.random.choice(self.instances))
            self.mischief()
            due = [item for item in self.network if item[0] <= self.now]
            self.network = [item for item in self.network if item[0] > self.now]
            for _, one, action, answer in sorted(due, key=lambda item: item[0]):
                self.arrive(one, action, answer)
            for one in self.instances:
                self.turn(one)
            self.check()

    def settle(self) -> None:
        """The weather clears: everything must arrive within a bounded time."""
        self.calm = True
        self.server.waiting.clear()
        for _ in range(3000):
            self.now += 20
            self.store.now_ms = self.now
            self.server.drain()
            due = [item for item in self.network if item[0] <= self.now]
            self.network = [item for item in self.network if item[0] > self.now]
            for _, one, action, answer in due:
                self.arrive(one, action, answer)
            for one in self.instances:
                self.turn(one)
            if not self.store.state.members and not self.store.state.lost and not self.network:
                break
        assert not self.store.state.members
        assert not self.store.state.lost
        assert self.promised <= set(self.server.messages("s"))


@pytest.mark.parametrize("seed", range(25))
def test_nothing_is_lost_or_stored_twice(seed: int) -> None:
    """With a durable buffer: no conflict, one epoch, every promised entry stored exactly once."""
    world = World(seed, older=False)
    world.run(250)
    world.settle()
    stored = world.server.messages("s")
    assert len(stored) == len(set(stored)) == world.names
    assert world.server.conflicts == []
    assert len({epoch for _, epoch in world.server.streams}) <= 1


@pytest.mark.parametrize("seed", range(25))
def test_older_buffers_lose_nothing_that_they_hold(seed: int) -> None:
    """The buffer comes back older or empty: what it holds, and what is stored, stays."""
    world = World(1000 + seed, older=True)
    world.run(250)
    world.settle()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_backlog_accounts_for_every_entry(data: st.DataObject) -> None:
    """Stored, waiting or dropped: nothing else, in the order of arrival, none twice."""
    store, backlog = MemoryBuffer(), Backlog("i", memory_entries_max=4)
    tickets: list[Ticket] = []
    for step in range(data.draw(st.integers(1, 30))):
        kind = data.draw(st.sampled_from(["add", "write", "lose answer", "refuse", "give up"]))
        if kind == "add":
            tickets.append(
                backlog.add([f'"message":"{step}-{i}"}}' for i in range(data.draw(st.integers(1, 3)))])
            )
        elif kind == "give up" and tickets:
            backlog.give_up(data.draw(st.sampled_from(tickets)))
        elif command := backlog.take(EPOCH):
            if kind != "refuse":
                answer = store.execute(command)
            if kind == "write":
                backlog.done(command, answer)
            else:
                backlog.failed()
    while backlog.unsettled:
        command = backlog.take(EPOCH)
        assert command is not None
        backlog.done(command, store.execute(command))
    stored = [tail for t in tickets if t.state == "stored" for tail in t.tails]
    held = [member.split(",", 2)[2] for _, member in sorted(store.state.members.items())]
    assert held == stored
    assert all(ticket.state in ("stored", "dropped") for ticket in tickets)
    numbers = len(held) + sum(note[2] - note[1] + 1 for note in _notes(store))
    assert numbers == sum(len(ticket.tails) for ticket in tickets)


def _notes(store: MemoryBuffer) -> list[tuple[int, int, int]]:
    return [(lost.epoch, lost.first, lost.last) for lost in store.execute(b.Load()).lost]
