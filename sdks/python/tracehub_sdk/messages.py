"""What happens to a window (events) and what it asks for (actions): values, see window.py."""

from __future__ import annotations

from dataclasses import dataclass

from tracehub_sdk.buffer import Loaded as Read
from tracehub_sdk.buffer import Lost, Numbering
from tracehub_sdk.ranges import Range

# ------------------------------------------------------------------ events: what happened


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Peeked:
    """The buffer was looked at: its numbering (None: there is none) and the notes of what is given up."""

    numbering: Numbering | None
    lost: tuple[Lost, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Answer to `Load`."""

    load_id: int
    read: Read


@dataclass(frozen=True, slots=True)
class Renumbered:
    """Answer to `Renumber`: where the numbering stands now."""

    numbering: Numbering | None


@dataclass(frozen=True, slots=True)
class BufferLost:
    """A command on the buffer failed, this one or another."""


@dataclass(frozen=True, slots=True)
class Replied:
    """A 2xx reply of `/ingest` to request `send_id`."""

    send_id: int
    epoch: int
    ack_till: int
    missing: tuple[Range, ...] = ()
    highest_seen: int = 0
    conflicts: int = 0
    queued: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A reply of another status. `index`: the entry that `field` names; `field` is "" when none is named."""

    send_id: int
    status: int
    reason: str = ""
    field: str = ""
    index: int | None = None
    retry_after_ms: float = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """No reply: connection refused, broken or timed out."""

    send_id: int


@dataclass(frozen=True, slots=True)
class Known:
    """Answer to `Probe`. `epoch` None: the server does not know the service (or this epoch of it).

    `next`: of the buffer, read after the server answered; only the first probe of a session needs it.
    """

    probe_id: int
    epoch: int | None
    ack_till: int = 0
    highest_seen: int = 0
    missing: tuple[Range, ...] = ()
    next: int = 0


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """`Probe` got no answer."""

    probe_id: int
    retry_after_ms: float = 0


@dataclass(frozen=True, slots=True)
class Hurry:
    """Somebody waits (flush, close): send what is there without lingering."""


FromBuffer = Peeked | Loaded | Renumbered | BufferLost
FromServer = Replied | Refused | Failed | Known | ProbeFailed
Event = Tick | Hurry | FromBuffer | FromServer

# ------------------------------------------------------------------ actions: what to do


@dataclass(frozen=True, slots=True)
class Load:
    """Read members `first`..`last` of the buffer, at most `limit` -> `Loaded`."""

    load_id: int
    first: int
    last: int
    limit: int


@dataclass(frozen=True, slots=True)
class Send:
    """POST /ingest -> `Replied`, `Refused` or `Failed`. Either entries or lost, never both."""

    send_id: int
    epoch: int
    start: int
    entries: tuple[tuple[int, str], ...]
    lost: tuple[Lost, ...]
    deadline_ms: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for this request any more."""

    send_id: int


@dataclass(frozen=True, slots=True)
class Trim:
    """Forget members up to `ack_till` (`buffer.Trim`)."""

    epoch: int
    ack_till: int


@dataclass(frozen=True, slots=True)
class Reject:
    """Move the entry to `:rejected` (`buffer.Reject`)."""

    epoch: int
    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class Renumber:
    """New epoch >= `floor`, members above `above` numbered anew (`buffer.Renumber`) -> `Renumbered`."""

    epoch: int
    above: int
    floor: int


@dataclass(frozen=True, slots=True)
class Probe:
    """GET /ack/{service}, of `epoch` or (None) of the newest -> `Known` or `ProbeFailed`."""

    probe_id: int
    epoch: int | None
    deadline_ms: float


@dataclass(frozen=True, slots=True)
class Told:
    """The server knows of these (`buffer.ForgetLost`)."""

    lost: tuple[Lost, ...]


Action = Load | Send | Cancel | Trim | Reject | Renumber | Probe | Told
