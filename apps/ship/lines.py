r"""Lines of a file as bytes, each with the offset behind it; and the line as an entry.

A line ends with `\n` or `\r\n`, which do not belong to it; a lone `\r` does. The message is the line, decoded
as UTF-8. Bytes that are not UTF-8 show as U+FFFD, and then `attrs.line_base64` holds the exact bytes; the
same for a NUL, which the database cannot hold. Of a line over 1 MiB the message is the first MiB;
`attrs.line_rest` holds up to 512 KiB more and `attrs.line_bytes` its true length.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass

from apps.ship.recognise import Recognised

BLOCK_BYTES = 256 * 1024
MESSAGE_BYTES_MAX = 1024 * 1024
REST_BYTES_MAX = 512 * 1024
KEPT_BYTES_MAX = MESSAGE_BYTES_MAX + REST_BYTES_MAX
BASE64_BYTES_MAX = 700 * 1024  # as base64 it stays below the 1 MiB that attributes may take


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `data`: its first KEPT_BYTES_MAX bytes, `size`: how many it has, `end`: offset behind it."""

    data: bytes
    size: int
    end: int
    terminated: bool


class LineReader:
    """Reads lines of an open file from an offset; what is incomplete waits for more."""

    def __init__(self, fd: int, offset: int) -> None:
        self._fd = fd
        self._read_to = offset
        self._rest = bytearray()
        self._cut = 0  # bytes of an over-long line that were let go
        self._line_begin = offset

    @property
    def waits(self) -> bool:
        """Whether there is the beginning of a line."""
        return bool(self._rest)

    def lines(self, limit: int, bytes_max: int, *, take_tail: bool) -> Iterator[Line]:
        """Up to `limit` complete lines; at the end of the file also the last one without its newline."""
        given = size = 0
        while given < limit and size < bytes_max:
            line = self._next_line()
            if line is None:
                block = os.pread(self._fd, BLOCK_BYTES, self._read_to)
                if not block:
                    if take_tail and (tail := self._tail()):
                        yield tail
                    return
                self._read_to += len(block)
                self._rest += block
                continue
            given += 1
            size += len(line.data)
            yield line

    def _next_line(self) -> Line | None:
        at = self._rest.find(b"\n")
        if at < 0:
            # The last byte stays: it may be the \r of a \r\n.
            if (over := len(self._rest) - KEPT_BYTES_MAX - 1) > 0:
                del self._rest[KEPT_BYTES_MAX:-1]
                self._cut += over
            return None
        return self._take(at, terminated=True)

    def _tail(self) -> Line | None:
        return self._take(len(self._rest), terminated=False) if self._rest else None

    def _take(self, length: int, *, terminated: bool) -> Line:
        data = bytes(self._rest[:length])
        del self._rest[: length + terminated]
        self._line_begin += length + self._cut + terminated
        if terminated and data.endswith(b"\r"):
            data = data[:-1]
        size, self._cut = len(data) + self._cut, 0
        return Line(data[:KEPT_BYTES_MAX], size, self._line_begin, terminated)


def entry(line: Line, known: Recognised, path: str) -> dict[str, object]:
    """The line as an entry of the producer; `ts` only when the line has one."""
    message = line.data[:MESSAGE_BYTES_MAX].decode("utf-8", "replace")
    attrs: dict[str, object] = {"file": path}
    whole = line.size <= MESSAGE_BYTES_MAX
    if not whole:
        # Cut before a character that the limit would split: its bytes go to the rest.
        kept = line.data[:MESSAGE_BYTES_MAX]
        for _ in range(3):
            if (line.data[len(kept)] & 0xC0) == 0x80:
                kept = kept[:-1]
        message = kept.decode("utf-8", "replace")
        rest = line.data[len(kept) :]
        attrs |= {"line_bytes": line.size, "line_rest": rest.decode("utf-8", "replace")}
    if not _is_clean(line.data) and len(line.data) <= BASE64_BYTES_MAX:
        attrs["line_base64"] = base64.b64encode(line.data).decode()
    made: dict[str, object] = {"message": message, "attrs": attrs, **known.fields}
    if known.ts is not None:
        made["ts"] = known.ts
    if known.level is not None:
        made["level"] = known.level
    return made


def _is_clean(data: bytes) -> bool:
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        # A character split by the limit of an over-long line is no bad byte.
        return len(data) == KEPT_BYTES_MAX and error.start >= KEPT_BYTES_MAX - 3
    return True
