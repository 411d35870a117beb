"""What a process has appended but Redis may not have, and what it remembers: a value machine, no I/O.

Guarantee: every entry given to `add` is in exactly one place: waiting here, in the buffer (its ticket has a
number or is `stored`), or counted as dropped; a dropped one is numbered later and reported `lost`.

    ticket = backlog.add(tails); command = backlog.take(now_ms)
    backlog.done(command, buffer.execute(command))      # or backlog.failed() when the buffer raised

Invariants:
1. At most one command is out; one whose outcome is unknown is repeated with the same token until it is
   known, before anything else is taken. So entries keep their order and none is buffered twice.
2. While the buffer is `down`, at most `memory_entries_max` entries wait; what comes then is dropped.
3. `remembered` are this process's numbers of the present epoch from `start` on: what must be reported as
   lost when the buffer loses its numbering (contract ingest.md §6).

It does not lock: callers hold a lock around every call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tracehub_sdk.buffer import APPEND_ENTRIES_MAX, BUFFER_ENTRIES_MAX, Append, Appended, Lost, Numbering
from tracehub_sdk.ranges import Range, cut, size

MEMORY_ENTRIES_MAX = 10_000
Policy = Literal["block", "drop_oldest"]


@dataclass(slots=True, eq=False)
class Ticket:
    """Entries that were handed over together, at most 500."""

    tails: Sequence[str]
    state: Literal["waiting", "stored", "dropped"] = "waiting"
    first: int = 0
    """Number of the first of them once `stored`; 0 when it is not known."""
    abandoned: bool = False
    """Nobody waits for it any more: dropped if the buffer refuses it."""


@dataclass(slots=True)
class BacklogCounts:
    """Totals since the start."""

    appended: int = 0
    dropped: int = 0
    lost: int = 0
    epochs_broken: int = 0
    buffer_errors: int = 0


@dataclass(slots=True)
class Backlog:
    """See the module."""

    instance: str
    policy: Policy = "block"
    entries_max: int = BUFFER_ENTRIES_MAX
    memory_entries_max: int = MEMORY_ENTRIES_MAX
    counts: BacklogCounts = field(default_factory=BacklogCounts)
    seen: Numbering | None = None
    remembered: list[Range] = field(default_factory=list)
    losses: list[Lost] = field(default_factory=list)
    """To be noted in the buffer as given up (`NoteLost`)."""
    down: bool = False
    full: bool = False
    _waiting: deque[Ticket] = field(default_factory=deque)
    _entries: int = 0
    _skip: int = 0
    _out: tuple[Append, list[Ticket]] | None = None
    _tokens: int = 0

    def add(self, tails: Sequence[str]) -> Ticket:
        """Queue entries; the ticket is `dropped` at once when the buffer is down and memory is full."""
        ticket = Ticket(tails)
        if self.down and self._entries + len(tails) > self.memory_entries_max:
            self._drop(ticket)
        else:
            self._waiting.append(ticket)
            self._entries += len(tails)
        return ticket

    def take(self, now_ms: int) -> Append | None:
        """The next command, or None when there is nothing to write."""
        if self._out:
            return self._out[0]
        tickets: list[Ticket] = []
        tails: list[str] = []
        while self._waiting and len(tails) + len(self._waiting[0].tails) <= APPEND_ENTRIES_MAX:
            tickets.append(self._waiting.popleft())
            tails.extend(tickets[-1].tails)
        skip = 0 if self._waiting else self._skip
        if not tails and not skip:
            return None
        self._tokens += 1
        self._skip -= skip
        self._out = (self._command(tails, now_ms, skip), tickets)
        return self._out[0]

    def touch(self, now_ms: int) -> Append | None:
        """A command that appends nothing but finds out what became of the numbering; None if one is out."""
        if self._out or not self.remembered:
            return None
        self._tokens += 1
        self._out = (self._command((), now_ms, 0), [])
        return self._out[0]

    def _command(self, tails: Sequence[str], now_ms: int, skip: int) -> Append:
        return Append(
            tails,
            self.instance,
            str(self._tokens),
            now_ms,
            self.seen,
            self.entries_max,
            drop_oldest=self.policy == "drop_oldest",
            skip=skip,
        )

    def failed(self) -> None:
        """The command raised: its outcome is unknown and it will be repeated."""
        self.counts.buffer_errors += 1
        self.down = True

    def done(self, command: Append, answer: Appended) -> None:
        """The command was carried out (or refused as `full`)."""
        self.down = False
        _, tickets = self._out or (command, [])
        self._out = None
        self.full = answer.status == "full"
        if answer.numbering is None:
            return
        self._observe(answer.numbering, answer)
        if answer.status != "ok":
            self._waiting.extendleft(ticket for ticket in reversed(tickets) if not ticket.abandoned)
            for ticket in tickets:
                if ticket.abandoned:
                    self._entries -= len(ticket.tails)
                    self._drop(ticket)
            self._skip += command.skip
            return
        first = answer.first
        for ticket in tickets:
            ticket.state, ticket.first = "stored", first
            first += len(ticket.tails) if first else 0
        self._entries -= len(command.tails)
        self.counts.appended += len(command.tails)
        self.counts.lost += command.skip
        if answer.first and command.tails:
            self._remember((answer.first, answer.first + len(command.tails) - 1))

    def _remember(self, given: Range) -> None:
        if self.remembered and self.remembered[-1][1] + 1 == given[0]:
            self.remembered[-1] = (self.remembered[-1][0], given[1])
        else:
            self.remembered.append(given)

    def _observe(self, now: Numbering, answer: Appended) -> None:
        """Compare with the numbering known so far; what is in no buffer any more becomes a loss."""
        old = self.seen
        if old is not None and now.epoch != old.epoch:
            gone: list[Range] = []
            if answer.broke is not None:
                gone = cut(self.remembered, [(0, answer.broke - 1)])
            elif answer.previous != old.epoch:  # another process met the empty buffer first
                gone = self.remembered
            self.losses += [Lost(old.epoch, first, last, "buffer_lost") for first, last in gone]
            self.counts.lost += size(gone)
            self.counts.epochs_broken += 1
            self.remembered = []
        self.seen = now
        if self.remembered and self.remembered[0][0] < now.start:
            self.remembered = cut(self.remembered, [(0, now.start - 1)])

    def give_up(self, ticket: Ticket) -> None:
        """Nobody waits for this ticket any more: dropped, unless it is just being written."""
        ticket.abandoned = True
        if ticket.state == "waiting" and ticket in self._waiting:
            self._waiting.remove(ticket)
            self._entries -= len(ticket.tails)
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        ticket.state = "dropped"
        self._skip += len(ticket.tails)
        self.counts.dropped += len(ticket.tails)

    @property
    def waiting(self) -> int:
        """Entries that are not in the buffer yet."""
        return self._entries

    @property
    def unsettled(self) -> bool:
        """Something is to be written: entries, dropped numbers or losses."""
        return bool(self._entries or self._skip or self._out or self.losses)
