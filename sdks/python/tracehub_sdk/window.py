"""What a producer sends next: the delivery protocol as a pure value machine (contract ingest.md §2, §6).

Guarantee: feed it what happened, carry out what it asks for, and every number in the buffer is sent until
the server says that it is stored or lost; nothing leaves the buffer before that.

    actions = window.handle(event, now_ms, random)     # also `Tick()` when `wake_at_ms()` has come

Invariants:
1. `Trim(n)` comes only when the greatest `ackTill` covers n and every number up to n was carried, in this
   session, by a request whose reply had no conflicts. So a buffer that came back older never loses entries.
2. Nothing is sent before the numbering was compared with the server's (`Probe` -> `Known`).
3. At most `flights_max` requests are out; one, while the server is failing. A number is in one place only:
   to do, being loaded, in flight, or with the server.
4. What a reply calls missing is sent again, unless it is to do, being loaded or in flight.
5. A refused entry (400) is rejected and given up by name; 413 halves; every other refusal waits and repeats.

Limits: `Limits`. Times are milliseconds of any monotonic clock; `random` is in [0, 1).

It has no clock, socket or buffer, and it does not know what entries mean. Events about the buffer must come
in the order in which the buffer carried the commands out; replies may come in any order, twice or never.
After a buffer error feed `BufferLost()`: the session starts again from the buffer. A request that the
driver cannot bring to an end needs no event: its deadline repeats it.
"""

from __future__ import annotations

from collections.abc import Iterable

from tracehub_sdk.buffer import Lost, Numbering
from tracehub_sdk.messages import (
    Action,
    BufferLost,
    Cancel,
    Event,
    Failed,
    Hurry,
    Known,
    Load,
    Loaded,
    Peeked,
    Probe,
    ProbeFailed,
    Refused,
    Reject,
    Renumber,
    Renumbered,
    Replied,
    Send,
    Tick,
    Told,
    Trim,
)
from tracehub_sdk.ranges import Range, cut, merge
from tracehub_sdk.session import Counts, Flight, Limits, Session, Work

__all__ = ["Counts", "Limits", "Window"]


class Window:
    """The state machine. `renumber=False`: numbers are fixed (line numbers); conflicts are only counted."""

    def __init__(self, limits: Limits | None = None, *, renumber: bool = True) -> None:
        self.limits = limits or Limits()
        self.counts = Counts()
        self.numbering: Numbering | None = None
        self.trimmed = 0
        """Greatest number of this epoch that was trimmed."""
        self._may_renumber = renumber
        self._session = Session()
        self._notes: dict[str, Lost] = {}
        self._noted: dict[int, tuple[Lost, ...]] = {}
        self._last_id = 0
        self._failures = 0
        self._timeouts = 0
        self._epochs_made = 0
        self._pause_till_ms = 0.0
        self._fresh_since_ms: float | None = None
        self._probe_at_ms = 0.0
        self._probes = 0
        self._hurry_till = 0
        self._now_ms = 0.0
        self._random = 0.0

    # -------------------------------------------------------------- the interface

    def handle(self, event: Event, now_ms: float, random: float) -> list[Action]:
        """Take one event, answer what to do, in this order. Never raises on what a server says."""
        self._now_ms, self._random = now_ms, random
        actions: list[Action] = []
        match event:
            case Peeked(numbering, lost):
                self._note(lost)
                self._see(numbering, actions)
            case Loaded():
                self._loaded(event, actions)
            case Renumbered(numbering):
                self._restart(numbering)
            case BufferLost():
                self._restart(self.numbering)
                self._back_off(0)
            case Replied():
                self._replied(event, actions)
            case Refused():
                self._refused(event, actions)
            case Failed(send_id):
                self._failed(send_id)
            case Known():
                self._known(event, actions)
            case ProbeFailed(probe_id, retry_after_ms):
                if self._session.probe and self._session.probe.probe_id == probe_id:
                    self._session.probe = None
                    self._back_off(retry_after_ms)
            case Hurry():
                self._hurry_till = self._newest()
            case Tick():
                pass
        self._expire(actions)
        self._trim(actions)
        self._fill(actions)
        return actions

    def wake_at_ms(self) -> float | None:
        """When the next `Tick` is wanted; None: only after an event."""
        session = self._session
        times = [flight.deadline_ms for flight in session.flights.values()]
        if session.probe:
            times.append(session.probe.deadline_ms)
        elif self.numbering and not session.renumbering:
            waiting = self._has_room() and (session.todo or self._pending_notes())
            if waiting or not session.checked:
                times.append(self._pause_till_ms)
            elif self._has_room() and self._newest() > session.sent_till:
                times.append(max(self._pause_till_ms, (self._fresh_since_ms or 0) + self.limits.linger_ms))
            elif self._wants_probe():
                times.append(max(self._pause_till_ms, self._probe_at_ms))
        return min(times, default=None)

    @property
    def idle(self) -> bool:
        """Everything that the buffer was seen to hold is acknowledged, and every loss is told."""
        acked = self.numbering is None or self._session.ack_till >= self._newest()
        return acked and not self._notes and not self._session.flights

    @property
    def ack_till(self) -> int:
        """The greatest `ackTill` of the present epoch in this session."""
        return self._session.ack_till

    @property
    def in_flight(self) -> int:
        """Requests that are out."""
        return len(self._session.flights)

    # -------------------------------------------------------------- the buffer

    def _newest(self) -> int:
        return self.numbering.next - 1 if self.numbering else 0

    def _note(self, lost: Iterable[Lost]) -> None:
        for note in lost:
            self._notes[note.field] = note

    def _see(self, seen: Numbering | None, actions: list[Action]) -> None:
        """The buffer's numbering, as it stands now."""
        old = self.numbering
        if seen is None or seen == old or self._session.renumbering:
            return
        if old is None or seen.epoch > old.epoch or (seen.epoch < old.epoch and not self._may_renumber):
            self._restart(seen)
        elif seen.epoch < old.epoch or seen.next < old.next:
            self._older(seen, old, actions)
        else:
            if old.next - 1 <= self._session.sent_till and seen.next > old.next:
                self._fresh_since_ms = self._now_ms
            self.numbering = seen

    def _older(self, seen: Numbering, old: Numbering, actions: list[Action]) -> None:
        """A buffer came back that does not know the numbers that were given."""
        if not self._may_renumber:
            self._restart(seen)
            return
        above = self.trimmed if seen.epoch == old.epoch else 0
        self._renumber(Renumber(seen.epoch, above, old.epoch + 1), actions)

    def _renumber(self, action: Renumber, actions: list[Action]) -> None:
        self._session = Session(renumbering=True)
        self._noted.clear()
        self.counts.renumbered += 1
        self._epochs_made += 1
        actions.append(action)

    def _restart(self, numbering: Numbering | None) -> None:
        """A new session: compare with the server, then send the buffer from its lowest number."""
        if numbering is None or self.numbering is None or numbering.epoch != self.numbering.epoch:
            self.trimmed = 0
            if self._epochs_made:  # new epochs one after another must not come at full speed
                self._pause(self.limits.backoff_ms * 2 ** min(self._epochs_made, 8))
        self.numbering = numbering
        self._session = Session(sent_till=numbering.start - 1 if numbering else 0)
        self._fresh_since_ms = self._now_ms
        self._noted.clear()

    def _loaded(self, event: Loaded, actions: list[Action]) -> None:
        self._note(event.read.lost)
        work = self._session.loading.pop(event.load_id, None)
        self._see(event.read.numbering, actions)
        session, seen = self._session, event.read.numbering
        if work is None or seen is None or seen != self.numbering or not session.checked:
            return
        entries = event.read.entries
        if not entries:
            return
        last = entries[-1][0]
        if last < work.last:
            self._session.add(Work(last + 1, work.last, work.cap))
        send = self._flight(Flight(tuple(seq for seq, _ in entries), (), self._deadline()))
        start = min(seen.start, entries[0][0])
        actions.append(Send(send, seen.epoch, start, entries, (), session.flights[send].deadline_ms))
        self.counts.sent += len(entries)

    def _flight(self, flight: Flight) -> int:
        self._last_id += 1
        self._session.flights[self._last_id] = flight
        return self._last_id

    def _deadline(self) -> float:
        grown = self.limits.timeout_ms * 2.0 ** min(self._timeouts, 8)
        return self._now_ms + min(self.limits.timeout_max_ms, grown) * (1 + self._random / 4)

    # -------------------------------------------------------------- the server

    def _replied(self, reply: Replied, actions: list[Action]) -> None:
        flight = self._session.flights.pop(reply.send_id, None)
        self._failures = self._timeouts = 0
        if told := self._noted.pop(reply.send_id, None):
            for note in told:
                self._notes.pop(note.field, None)
            self.counts.lost_told += len(told)
            actions.append(Told(told))
        if self.numbering is None or reply.epoch != self.numbering.epoch or not self._session.checked:
            return
        if reply.conflicts:
            self.counts.conflicts += reply.conflicts
            if self._may_renumber:
                epoch = self.numbering.epoch
                self._renumber(Renumber(epoch, self.trimmed, epoch + 1), actions)
                return
        unsure = [seq for seq in flight.seqs if seq <= self._session.known_till] if flight else []
        if reply.queued and unsure:
            # Numbers the server had before this session: only a reply after the commit can deny a conflict.
            self._again(unsure, self.limits.batch_entries_max)
            self._back_off(0)
        if reply.ack_till > self._session.ack_till:
            self._epochs_made = 0
        self._acknowledge(reply.ack_till, reply.missing)

    def _acknowledge(self, ack_till: int, missing: Iterable[Range]) -> None:
        session = self._session
        if ack_till > session.ack_till:
            session.ack_till = ack_till
            session.resent_ms = {seq: at for seq, at in session.resent_ms.items() if seq > ack_till}
            self._probes = 0
        self._probe_at_ms = self._now_ms + min(
            self.limits.probe_max_ms, self.limits.probe_ms * 2.0 ** min(self._probes, 8)
        )
        self._resend(missing)

    def _resend(self, missing: Iterable[Range]) -> None:
        """Send again what the server misses and nothing of ours is bringing it already."""
        session, start = self._session, self.numbering.start if self.numbering else 1
        named = [(max(first, start), min(last, session.sent_till)) for first, last in missing]
        wanted = cut(merge(named), merge(session.under_way()))
        due: list[int] = []
        for first, last in wanted:
            # Of a wide range the first number stands for all, so the memory of resends stays small.
            wide = last - first >= self.limits.batch_entries_max
            for seq in (first,) if wide else range(first, last + 1):
                if session.resent_ms.get(seq, -1e18) + self.limits.resend_ms > self._now_ms:
                    continue
                session.resent_ms[seq] = self._now_ms
                if wide:
                    self._session.add(Work(first, last, self.limits.batch_entries_max))
                else:
                    due.append(seq)
        self.counts.resent += len(due)
        self._again(due, self.limits.batch_entries_max)

    def _refused(self, refusal: Refused, actions: list[Action]) -> None:
        flight = self._session.flights.pop(refusal.send_id, None)
        if flight is None:
            return
        self.counts.refused += 1
        noted = self._noted.pop(refusal.send_id, ())
        if not flight.seqs and refusal.status != 400:
            self._back_off(refusal.retry_after_ms)
        elif refusal.status == 400 and noted:
            for note in noted:  # the server will never take them; `start` and the replay settle the numbers
                self._notes.pop(note.field, None)
            actions.append(Told(noted))
        elif refusal.status == 400 and refusal.index is not None and refusal.index < len(flight.seqs):
            self._reject(flight.seqs[refusal.index], refusal.reason, actions)
            self._again([s for i, s in enumerate(flight.seqs) if i != refusal.index], len(flight.seqs))
        elif refusal.status == 413 or (refusal.status == 400 and not refusal.field):
            if len(flight.seqs) == 1:
                self._reject(flight.seqs[0], refusal.reason, actions)
            else:
                half = len(flight.seqs) // 2
                self._again(flight.seqs[:half], half)
                self._again(flight.seqs[half:], len(flight.seqs) - half)
        else:
            self._again(flight.seqs, self.limits.batch_entries_max)
            self._back_off(refusal.retry_after_ms)

    def _reject(self, seq: int, reason: str, actions: list[Action]) -> None:
        if self.numbering is None:
            return
        self.counts.rejected += 1
        self._note([Lost(self.numbering.epoch, seq, seq, "rejected")])
        actions.append(Reject(self.numbering.epoch, seq, reason))

    def _failed(self, send_id: int) -> None:
        flight = self._session.flights.pop(send_id, None)
        self._noted.pop(send_id, None)
        if flight is not None:
            self.counts.failed += 1
            self._again(flight.seqs, self.limits.batch_entries_max)
            self._back_off(0)

    def _known(self, known: Known, actions: list[Action]) -> None:
        session, own = self._session, self.numbering
        if session.probe is None or session.probe.probe_id != known.probe_id or own is None:
            return
        session.probe = None
        self._failures = 0
        if session.checked:
            if known.epoch is None or known.epoch == own.epoch:
                self._probed(known)
            return
        if known.epoch is not None and self._may_renumber:
            came_back = known.epoch == own.epoch and known.highest_seen >= max(known.next, own.next)
            if known.epoch > own.epoch or came_back:
                self._renumber(Renumber(own.epoch, self.trimmed, known.epoch + 1), actions)
                return
        session.checked = True
        if known.epoch == own.epoch:
            session.known_till = known.highest_seen
            session.ack_till = known.ack_till

    def _probed(self, known: Known) -> None:
        """The server's word while nothing is out: it may know less than it was sent (a flushed queue)."""
        session = self._session
        if not session.flights and not session.loading and known.highest_seen < session.sent_till:
            first = max(known.highest_seen, known.ack_till, session.ack_till) + 1
            self._session.add(Work(first, session.sent_till, self.limits.batch_entries_max))
        self._acknowledge(known.ack_till, known.missing)

    # -------------------------------------------------------------- what is next

    def _again(self, seqs: Iterable[int], cap: int) -> None:
        for first, last in merge([(seq, seq) for seq in seqs if seq > self.trimmed]):
            self._session.add(Work(first, last, max(1, cap)))

    def _back_off(self, retry_after_ms: float) -> None:
        """Wait before the next request: exponentially longer, at least what the server asked for."""
        grown = min(self.limits.backoff_max_ms, self.limits.backoff_ms * 2.0 ** min(self._failures, 16))
        self._failures += 1
        self._pause(max(retry_after_ms * (1 + self._random / 4), grown * (0.5 + self._random / 2)))

    def _pause(self, delay_ms: float) -> None:
        self._pause_till_ms = max(self._pause_till_ms, self._now_ms + delay_ms)

    def _expire(self, actions: list[Action]) -> None:
        session = self._session
        late = [number for number, flight in session.flights.items() if flight.deadline_ms <= self._now_ms]
        for send_id in late:
            actions.append(Cancel(send_id))
            self._timeouts += 1
            self._failed(send_id)
        if session.probe and session.probe.deadline_ms <= self._now_ms:
            session.probe = None
            self._back_off(0)

    def _trim(self, actions: list[Action]) -> None:
        session = self._session
        if self.numbering is None or not session.checked:
            return
        till = min(session.ack_till, session.sent_till, session.lowest_outstanding() - 1)
        if till > session.trim_asked:
            session.trim_asked = till
            self.trimmed = max(self.trimmed, till)
            actions.append(Trim(self.numbering.epoch, till))

    def _has_room(self) -> bool:
        out = len(self._session.flights) + len(self._session.loading)
        return out < (1 if self._failures else self.limits.flights_max)

    def _pending_notes(self) -> list[Lost]:
        under_way = {note.field for notes in self._noted.values() for note in notes}
        return [note for field_, note in self._notes.items() if field_ not in under_way]

    def _wants_probe(self) -> bool:
        session = self._session
        return not session.flights and not session.loading and session.ack_till < session.sent_till

    def _fill(self, actions: list[Action]) -> None:
        """Ask for as much as may be out."""
        session = self._session
        if self.numbering is None or session.renumbering or self._now_ms < self._pause_till_ms:
            return
        if session.probe:
            return
        if not session.checked:
            self._probe(None if self._may_renumber else self.numbering.epoch, actions)
            return
        while self._has_room() and session.todo:
            work = session.todo.pop(0)
            self._load(Work(work.first, min(work.last, self._newest()), work.cap), actions)
        while self._has_room() and (notes := self._pending_notes()):
            self._send_notes(notes, actions)
        while self._has_room() and self._ripe():
            first = session.sent_till + 1
            session.sent_till = min(self._newest(), first + self.limits.batch_entries_max - 1)
            self._fresh_since_ms = self._now_ms
            self._load(Work(first, session.sent_till, self.limits.batch_entries_max), actions)
        due = self._now_ms >= self._probe_at_ms and not session.todo and not self._ripe()
        if due and self._wants_probe():
            self._probes += 1
            self._probe(self.numbering.epoch, actions)

    def _probe(self, epoch: int | None, actions: list[Action]) -> None:
        self._last_id += 1
        self._session.probe = Probe(self._last_id, epoch, self._deadline())
        actions.append(self._session.probe)

    def _ripe(self) -> bool:
        """A batch is full, or the oldest entry waited long enough, or somebody is in a hurry."""
        waiting = self._newest() - self._session.sent_till
        if waiting <= 0:
            return False
        since = self._fresh_since_ms if self._fresh_since_ms is not None else self._now_ms
        lingered = self._now_ms >= since + self.limits.linger_ms
        full = waiting >= self.limits.batch_entries_max
        return full or lingered or self._hurry_till > self._session.sent_till

    def _load(self, work: Work, actions: list[Action]) -> None:
        if work.first > work.last:
            return
        self._last_id += 1
        self._session.loading[self._last_id] = work
        limit = min(work.cap, self.limits.batch_entries_max)
        actions.append(Load(self._last_id, work.first, work.last, limit))

    def _send_notes(self, notes: list[Lost], actions: list[Action]) -> None:
        """Tell the server what is given up: one request per epoch."""
        epoch = notes[0].epoch
        chosen = tuple(note for note in notes if note.epoch == epoch)[: self.limits.lost_ranges_max]
        send = self._flight(Flight((), chosen, self._deadline()))
        self._noted[send] = chosen
        # Without `start`: the notes say exactly what is given up, and the epoch may be an old one.
        actions.append(Send(send, epoch, 0, (), chosen, self._session.flights[send].deadline_ms))
