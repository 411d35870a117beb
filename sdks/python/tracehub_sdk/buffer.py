"""A producer's buffer: commands as values, and the Redis that carries them out.

Guarantee: each command is one atomic step (one Lua script). What `Append` answered with `ok` has a number
and stays in the buffer until `Trim`, `Reject` or the bound with `drop_oldest` takes it out.

Invariants (contract ingest.md §6):
1. A member's number equals its score; all members carry the epoch of the meta hash.
2. `next` is above every number given in the epoch; `start` is the lowest number that can still be supplied.
3. A repeated `Append` (same instance, same token) neither numbers nor buffers again.
4. `Trim` and `Renumber` obey only the holder of the sender's lease and only in the epoch they name.
5. The numbering never goes back: an appender that has seen a higher `next` or epoch makes a new epoch.

Limits: 500 entries per append and load, 4 MiB per load, the rejected list keeps 1,000. It does not talk to
the server, retry or wait; `MemoryBuffer` (memory.py) is the same without Redis, for simulations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, Literal, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from tracehub_sdk import scripts
from tracehub_sdk.keys import Keys

APPEND_ENTRIES_MAX = 500
LOAD_ENTRIES_MAX = 500
LOAD_BYTES_MAX = 4 * 1024 * 1024 - 64 * 1024  # room for the envelope in a 4 MiB body
BUFFER_ENTRIES_MAX = 100_000
REJECTED_MAX = 1_000
LEASE_MS = 5_000

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Numbering:
    """Where a numbering stands: its epoch, the next number to give, the lowest that can be supplied."""

    epoch: int
    next: int
    start: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Numbers `first`..`last` (inclusive) of `epoch` that are given up, and why."""

    epoch: int
    first: int
    last: int
    reason: str

    @property
    def field(self) -> str:
        """Its field in the `:lost` hash."""
        return f"{self.epoch}:{self.first}:{self.last}"

    @classmethod
    def parse(cls, name: str, reason: str) -> Lost:
        """The reverse of `field`."""
        epoch, first, last = (int(part) for part in name.split(":"))
        return cls(epoch, first, last, reason)


@dataclass(frozen=True, slots=True)
class Appended:
    """Answer to `Append`. `full` and `unexpected` changed no number."""

    status: Literal["ok", "full", "unexpected"]
    numbering: Numbering | None
    first: int
    """Number of the first entry; the others follow without a hole, then the skipped ones."""
    broke: int | None
    """The numbering seen before is gone: its numbers from here on are in no buffer any more."""
    previous: int | None
    """Epoch whose entries were taken over into this one, if there was one."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Answer to `Load`: members as (seq, JSON), lowest first. `numbering` is None for an empty buffer."""

    numbering: Numbering | None
    entries: tuple[tuple[int, str], ...] = ()
    lost: tuple[Lost, ...] = ()


@dataclass(frozen=True, slots=True)
class Command(Generic[R]):
    """One atomic step on a buffer; `R` is what it answers."""


@dataclass(frozen=True, slots=True)
class Append(Command[Appended]):
    """Number and buffer `tails` (each from `entry.encode`), at most 500.

    `seen`: the numbering this instance knew last. `skip`: so many numbers more are given and at once lost
    with `skip_reason`. `expect`: (epoch, next) that must hold, for callers who number by themselves.
    `fields` are set in the meta hash in the same step.
    """

    tails: Sequence[str]
    instance: str
    token: str
    now_ms: int
    seen: Numbering | None = None
    entries_max: int = BUFFER_ENTRIES_MAX
    drop_oldest: bool = False
    skip: int = 0
    skip_reason: str = "overflow"
    expect: tuple[int, int] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load(Command[Loaded]):
    """Read members `first`..`last`, at most `limit`. `limit` 0: only the numbering and the lost."""

    first: int = 1
    last: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Trim(Command[bool]):
    """Forget members up to `ack_till`. False: no longer ours to trim."""

    epoch: int
    ack_till: int
    owner: str


@dataclass(frozen=True, slots=True)
class Reject(Command[bool]):
    """Move a refused entry to `:rejected` and its number to `:lost`."""

    epoch: int
    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Renumber(Command[Numbering | None]):
    """New epoch of at least `floor`; members above `above` are numbered anew from 1."""

    epoch: int
    above: int
    floor: int
    now_ms: int
    owner: str


@dataclass(frozen=True, slots=True)
class Open(Command[bool]):
    """Go on with number `next` of `epoch`. False while the buffer still holds entries."""

    epoch: int
    next: int


@dataclass(frozen=True, slots=True)
class NoteLost(Command[bool]):
    """Remember numbers as given up."""

    lost: tuple[Lost, ...]


@dataclass(frozen=True, slots=True)
class ForgetLost(Command[bool]):
    """The server has been told."""

    lost: tuple[Lost, ...]


@dataclass(frozen=True, slots=True)
class Lease(Command[bool]):
    """Take or keep the right to send for `lease_ms`; False when another instance has it."""

    owner: str
    lease_ms: int = LEASE_MS


@dataclass(frozen=True, slots=True)
class Release(Command[bool]):
    """Give the right to send back."""

    owner: str


def encode(command: Command[Any], keys: Keys) -> tuple[str, list[str], list[str | int]]:  # noqa: PLR0911
    """The command as (script, keys, arguments)."""
    own = [keys.buffer, keys.meta, keys.lost]
    match command:
        case Append():
            return scripts.APPEND, [*own, keys.last_append(command.instance)], _append_arguments(command)
        case Load(first, last, limit):
            return scripts.LOAD, own, [first, last, limit, LOAD_BYTES_MAX]
        case Trim(epoch, ack_till, owner):
            return scripts.TRIM, [*own, keys.sender], [epoch, ack_till, owner]
        case Reject(epoch, seq, reason):
            return scripts.REJECT, [*own, keys.rejected], [epoch, seq, reason, REJECTED_MAX]
        case Renumber(epoch, above, floor, now_ms, owner):
            return scripts.RENUMBER, [*own, keys.sender], [epoch, above, floor, now_ms, owner]
        case Open(epoch, following):
            return scripts.OPEN, own, [epoch, following]
        case NoteLost(lost):
            return scripts.NOTE_LOST, own, [part for note in lost for part in (note.field, note.reason)]
        case ForgetLost(lost):
            return scripts.FORGET_LOST, own, [note.field for note in lost]
        case Lease(owner, lease_ms):
            return scripts.LEASE, [*own, keys.sender], [owner, lease_ms]
        case Release(owner):
            return scripts.RELEASE, [*own, keys.sender], [owner]
    raise TypeError(f"not a buffer command: {command!r}")


def _append_arguments(command: Append) -> list[str | int]:
    seen = command.seen or Numbering(-1, 0, 1)
    expect = command.expect or (-1, 0)
    arguments: list[str | int] = [command.token, command.now_ms, seen.epoch, seen.next, seen.start]
    arguments += [command.entries_max, int(command.drop_oldest), command.skip, command.skip_reason]
    arguments += [*expect, len(command.fields)]
    for name, value in command.fields.items():
        arguments += [name, value]
    return arguments + list(command.tails)


def decode(command: Command[R], raw: Any) -> R:
    """What Redis answered, as the command's own answer."""
    answer: Any
    match command:
        case Append():
            status, epoch, following, start, first, broke, previous = raw
            answer = Appended(
                status.decode(),
                _numbering(epoch, following, start),
                first,
                None if broke < 0 else broke,
                None if previous < 0 else previous,
            )
        case Load():
            epoch, following, start, members, notes = raw
            entries = tuple((seq_of(member), member.decode()) for member in members)
            texts = [note.decode() for note in notes]
            lost = tuple(Lost.parse(*pair) for pair in zip(texts[::2], texts[1::2], strict=True))
            answer = Loaded(_numbering(epoch, following, start), entries, lost)
        case Renumber():
            answer = _numbering(*raw)
        case _:
            answer = bool(raw)
    return answer  # type: ignore[no-any-return]


def _numbering(epoch: int, following: int, start: int) -> Numbering | None:
    return None if epoch < 0 else Numbering(epoch, following, start)


def seq_of(member: bytes) -> int:
    """The number of a member: `{"epoch":7,"seq":12,…` -> 12."""
    begin = member.index(b'"seq":') + 6
    end = begin
    while member[end : end + 1].isdigit():
        end += 1
    return int(member[begin:end])


class RedisBuffer:
    """The buffer in a Redis, for threads. Errors are those of redis-py.

    A broken connection is tried once more at once (Redis closes idle ones): every command may be repeated.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self.keys = keys

    @classmethod
    def connect(cls, url: str, keys: Keys, *, timeout_s: float = 1.0) -> RedisBuffer:
        """A buffer at `url`; connects when first used."""
        client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[redis.ConnectionError],
        )
        return cls(client, keys)

    def execute(self, command: Command[R]) -> R:
        """Carry out one command."""
        script, keys, arguments = encode(command, self.keys)
        try:
            raw = self._client.evalsha(_digest(script), len(keys), *keys, *_texts(arguments))
        except NoScriptError:
            raw = self._client.eval(script, len(keys), *keys, *_texts(arguments))
        return decode(command, raw)

    def read_fields(self) -> dict[str, str]:
        """The whole meta hash."""
        fields: Any = self._client.hgetall(self.keys.meta)
        return {name.decode(): value.decode() for name, value in fields.items()}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class AsyncRedisBuffer:
    """The buffer in a Redis, for an event loop. Errors are those of redis-py."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client = client
        self.keys = keys

    @classmethod
    def connect(cls, url: str, keys: Keys, *, timeout_s: float = 1.0) -> AsyncRedisBuffer:
        """A buffer at `url`; connects when first used."""
        client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=AsyncRetry(NoBackoff(), 1),
            retry_on_error=[redis.ConnectionError],
        )
        return cls(client, keys)

    async def execute(self, command: Command[R]) -> R:
        """Carry out one command. Cancelled in between, whether it was carried out is unknown."""
        script, keys, arguments = encode(command, self.keys)
        try:
            raw = await self._client.evalsha(_digest(script), len(keys), *keys, *_texts(arguments))  # type: ignore[misc]
        except NoScriptError:
            raw = await self._client.eval(script, len(keys), *keys, *_texts(arguments))  # type: ignore[misc]
        return decode(command, raw)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@cache
def _digest(script: str) -> str:
    # EVALSHA names a script by its SHA-1; nothing about this is a matter of security.
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _texts(arguments: Iterable[str | int]) -> list[str]:
    return [argument if isinstance(argument, str) else str(argument) for argument in arguments]
