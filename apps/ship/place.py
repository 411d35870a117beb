"""Where shipping stands in a file, and which numbering (epoch) the file has.

The place is kept in the buffer's meta hash as the field `file:<epoch>`, written by the same script that
appends the lines, so both are there or neither. The epoch is computed from the file alone: the second that
its first line tells in front, a hash of that line and of the inode behind. So a newer log usually has the
greater epoch, a renamed (rotated) file keeps its own, and where the place is gone, the epoch still leads to
what the server knows of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace

from apps.ship.recognise import recognise

HEAD_BYTES = 4096
CHECK_BYTES = 256
FIELD = "file:"
FAR_MS = 4_102_444_800_000  # 2100-01-01: the epoch must not depend on when it is computed
SAME_HEAD_MAX = 64  # files that begin with the same line, told apart by their places


@dataclass(frozen=True, slots=True)
class Place:
    """`line` lines are in the buffer or acknowledged; the next begins at byte `offset`."""

    epoch: int
    inode: int
    path: str
    offset: int = 0
    line: int = 0
    check: str = ""
    """Hash of the bytes before `offset`: another file, or a rewritten one, has others there."""
    open_line: bool = False
    """The last line was shipped without its newline."""
    ts: int | None = None
    """Time of the last line that had one; lines without go by it."""

    @property
    def field(self) -> str:
        """Its field in the meta hash."""
        return f"{FIELD}{self.epoch}"

    def dump(self) -> str:
        """Its value in the meta hash."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def moved(self, fd: int, *, offset: int, line: int, open_line: bool, ts: int | None) -> Place:
        """The place after more lines."""
        check = check_of(fd, offset)
        return replace(self, offset=offset, line=line, check=check, open_line=open_line, ts=ts)

    def fits(self, fd: int) -> bool:
        """The open file is still the one that was read up to here."""
        status = os.fstat(fd)
        if status.st_ino != self.inode or status.st_size < self.offset:
            return False
        return check_of(fd, self.offset) == self.check


def load(value: str) -> Place | None:
    """The reverse of `dump`; None for what is no place."""
    try:
        return Place(**json.loads(value))
    except (ValueError, TypeError):
        return None


def places(fields: dict[str, str]) -> dict[int, Place]:
    """All places in a meta hash, by epoch."""
    found = (load(value) for name, value in fields.items() if name.startswith(FIELD))
    return {place.epoch: place for place in found if place is not None}


def check_of(fd: int, offset: int) -> str:
    """Hash of the bytes just before `offset`."""
    begin = max(0, offset - CHECK_BYTES)
    return hashlib.blake2b(os.pread(fd, offset - begin, begin), digest_size=8).hexdigest()


def epoch_of(first_line: bytes, inode: int) -> int:
    """The numbering of a file: positive and below 2^53.

    Files whose first line tells no full date get epochs below all others: their order is not known.
    """
    head = first_line[:HEAD_BYTES]
    digest = hashlib.blake2b(head + b"\0%d" % inode, digest_size=8).digest()
    number = int.from_bytes(digest, "big")
    text = head.decode("utf-8", "replace")
    # With two references a year apart, a time that moves with the reference betrays a missing year.
    told = recognise(text, FAR_MS).ts
    again = recognise(text, FAR_MS + 400 * 86_400_000).ts
    if told is None or told != again:
        return (number & (2**48 - 1)) + 1
    return (told // 1000 << 20) | (number & (2**20 - 1))
