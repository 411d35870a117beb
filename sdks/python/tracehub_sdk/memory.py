"""The buffer without Redis: the same commands and answers, in plain Python. For simulations and tests.

`copy` and assigning `state` make an older buffer come back; `MemoryBuffer.state = State()` wipes it.
"""

from __future__ import annotations

import copy
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from tracehub_sdk import buffer as b

_MEMBER = re.compile(r'\{"epoch":(\d+),"seq":(\d+)(.*)\Z', re.DOTALL)


@dataclass(slots=True)
class State:
    """Everything that Redis would hold for one service."""

    members: dict[int, str] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    said: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    holder: str | None = None
    held_till_ms: float = 0


class MemoryBuffer:
    """Carries commands out on `state`. `now_ms` is the time that leases are measured by."""

    def __init__(self) -> None:
        self.state = State()
        self.now_ms = 0.0
        self._lock = threading.Lock()

    def copy(self) -> State:
        """What a snapshot of Redis would hold now."""
        return copy.deepcopy(self.state)

    def execute(self, command: b.Command[b.R]) -> b.R:
        """One atomic step, also among threads; see the command for its answer."""
        with self._lock:
            return self._execute(command)

    def close(self) -> None:
        """Nothing to close."""

    def _execute(self, command: b.Command[b.R]) -> b.R:  # noqa: PLR0912 - one branch per command
        answer: Any
        match command:
            case b.Append():
                answer = self._append(command)
            case b.Load(first, last, limit):
                answer = self._load(first, last, limit)
            case b.Trim():
                answer = self._trim(command)
            case b.Reject():
                answer = self._reject(command)
            case b.Renumber():
                answer = self._renumber_for(command)
            case b.Open(epoch, following):
                answer = not self.state.members
                if answer:
                    self._set(b.Numbering(epoch, following, following))
            case b.NoteLost(lost):
                self.state.lost.update({note.field: note.reason for note in lost})
                answer = True
            case b.ForgetLost(lost):
                for note in lost:
                    self.state.lost.pop(note.field, None)
                answer = True
            case b.Lease(owner, lease_ms):
                answer = self._holder() in (None, owner)
                if answer:
                    self.state.holder, self.state.held_till_ms = owner, self.now_ms + lease_ms
            case b.Release(owner):
                answer = self._holder() == owner
                if answer:
                    self.state.holder = None
            case _:
                raise TypeError(f"not a buffer command: {command!r}")
        return answer  # type: ignore[no-any-return]

    def read_fields(self) -> dict[str, str]:
        """The whole meta hash."""
        return dict(self.state.meta)

    def _holder(self) -> str | None:
        return self.state.holder if self.now_ms < self.state.held_till_ms else None

    def _set(self, now: b.Numbering) -> b.Numbering:
        self.state.meta |= {"epoch": str(now.epoch), "next": str(now.next), "start": str(now.start)}
        return now

    def _numbering(self) -> b.Numbering | None:
        meta, members = self.state.meta, self.state.members
        if "epoch" in meta and "next" in meta and "start" in meta:
            return b.Numbering(int(meta["epoch"]), int(meta["next"]), int(meta["start"]))
        if not members:
            return None
        epoch = int(_split(members[max(members)])[0])
        return self._set(b.Numbering(epoch, max(members) + 1, min(members)))

    def _renumber(self, old: b.Numbering, above: int, floor: int, now_ms: int) -> b.Numbering:
        fresh = max(now_ms, floor, old.epoch + 1)
        kept = [self.state.members[seq] for seq in sorted(self.state.members) if seq > above]
        self.state.members = {
            n: f'{{"epoch":{fresh},"seq":{n}{_split(member)[2]}' for n, member in enumerate(kept, 1)
        }
        self.state.meta["previous"] = str(old.epoch)
        return self._set(b.Numbering(fresh, len(kept) + 1, 1))

    def _append(self, command: b.Append) -> b.Appended:
        now = self._numbering()
        said = self.state.said.get(command.instance)
        if said and said[0] == command.token and now:
            return b.Appended("ok", now, said[2] if said[1] == now.epoch else 0, None, None)
        if command.expect is not None:
            if now is None or (now.epoch, now.next) != command.expect:
                return b.Appended("unexpected", now, 0, None, None)
            broke = None
        else:
            now, broke = self._continue(now, command)
        over = len(self.state.members) + len(command.tails) - command.entries_max
        if over > 0:
            if not command.drop_oldest:
                return b.Appended("full", now, 0, broke, None)
            for seq in sorted(self.state.members)[:over]:
                del self.state.members[seq]
            now = b.Numbering(now.epoch, now.next, min(self.state.members, default=now.next))
            self.state.meta["dropped"] = str(int(self.state.meta.get("dropped", "0")) + over)
        first = following = now.next
        for tail in command.tails:
            self.state.members[following] = f'{{"epoch":{now.epoch},"seq":{following},{tail}'
            following += 1
        if command.skip:
            note = b.Lost(now.epoch, following, following + command.skip - 1, command.skip_reason)
            self.state.lost[note.field] = note.reason
            following += command.skip
        now = self._set(b.Numbering(now.epoch, following, now.start))
        self.state.meta |= command.fields
        self.state.said[command.instance] = (command.token, now.epoch, first)
        previous = self.state.meta.get("previous")
        return b.Appended("ok", now, first, broke, int(previous) if previous else None)

    def _continue(self, now: b.Numbering | None, command: b.Append) -> tuple[b.Numbering, int | None]:
        """The numbering to go on with, and from where on the one seen before is gone."""
        seen = command.seen or b.Numbering(-1, 0, 1)
        if now is None:
            fresh = self._set(b.Numbering(max(command.now_ms, seen.epoch + 1), 1, 1))
            return fresh, 1 if seen.epoch >= 0 else None
        if now.epoch < seen.epoch:
            return self._renumber(now, 0, seen.epoch + 1, command.now_ms), 1
        if now.epoch == seen.epoch and now.next < seen.next:
            return self._renumber(now, seen.start - 1, 0, command.now_ms), now.next
        return now, None

    def _load(self, first: int, last: int, limit: int) -> b.Loaded:
        now = self._numbering()
        if now is None:
            return b.Loaded(None)
        chosen: list[tuple[int, str]] = []
        room = b.LOAD_BYTES_MAX
        for seq in sorted(seq for seq in self.state.members if first <= seq <= last)[:limit]:
            room -= len(self.state.members[seq].encode()) + 1
            if room < 0 and chosen:
                break
            chosen.append((seq, self.state.members[seq]))
        lost = tuple(b.Lost.parse(name, reason) for name, reason in self.state.lost.items())
        return b.Loaded(now, tuple(chosen), lost)

    def _trim(self, command: b.Trim) -> bool:
        now = self._numbering()
        if now is None or now.epoch != command.epoch or now.next <= command.ack_till:
            return False
        if self._holder() != command.owner:
            return False
        for seq in [seq for seq in self.state.members if seq <= command.ack_till]:
            del self.state.members[seq]
        self._set(b.Numbering(now.epoch, now.next, max(now.start, command.ack_till + 1)))
        return True

    def _reject(self, command: b.Reject) -> bool:
        now = self._numbering()
        if now is None or now.epoch != command.epoch or command.seq not in self.state.members:
            return False
        self.state.rejected.insert(0, (command.reason, self.state.members.pop(command.seq)))
        del self.state.rejected[b.REJECTED_MAX :]
        self.state.lost[f"{command.epoch}:{command.seq}:{command.seq}"] = "rejected"
        return True

    def _renumber_for(self, command: b.Renumber) -> b.Numbering | None:
        now = self._numbering()
        if now is None or now.epoch != command.epoch or self._holder() != command.owner:
            return now
        return self._renumber(now, command.above, command.floor, command.now_ms)


def _split(member: str) -> tuple[str, str, str]:
    match = _MEMBER.match(member)
    if match is None:
        raise ValueError("a member of the buffer must begin with its epoch and seq")
    return match[1], match[2], match[3]
