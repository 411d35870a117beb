"""Ship files: every line once, its number the line's, across restarts, rotation and truncation.

1. A file has an epoch of its own (place.py). Files of one call take turns: before another file's epoch is
   opened, everything of the one before is acknowledged. So all go to one service, none waits for ever.
2. Lines and place are appended in one step (channel.py), so a restart neither repeats nor skips.
3. Where the place is gone, the server says how far it holds the file; the rest is shipped again from there.
4. A path that shows another file (rotation) first gets the old file's rest, found by its inode also after a
   restart; a file that shrank or whose content before the place changed (truncation) is a new file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apps.ship import place as places
from apps.ship.channel import Channel, NumberingChangedError, ShipError, StopError
from apps.ship.lines import LineReader, entry
from apps.ship.place import Place
from apps.ship.recognise import Recognised, recognise
from tracehub.runtime.clock import now_ms
from tracehub_sdk.entry import encode

LINES_MAX = 500
CHUNK_BYTES_MAX = 4 * 1024 * 1024
FOLLOW_POLL_S = 0.25
QUIET_S = 3.0
SURPRISES_MAX = 5  # times in a row that the buffer was not as we left it, without a line shipped
NEAR_FILES_MAX = 1000  # files looked at beside a path, to find the one that was rotated away


@dataclass(slots=True)
class FileReport:
    """What became of one path; lines of all files that it showed."""

    path: str
    resumed_at: int = 0
    read: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    epochs: list[int] = field(default_factory=list)


@dataclass(slots=True)
class OpenFile:
    """A file being read."""

    fd: int
    place: Place
    reader: LineReader
    skip_newline: bool

    def size(self) -> int:
        """Its bytes now."""
        return os.fstat(self.fd).st_size

    def reference_ms(self) -> int:
        """When it was last written."""
        return int(os.fstat(self.fd).st_mtime * 1000)


class Shipper:
    """Ships `paths` through `channel`. `report` is called after every step. `quiet_s`: after so many seconds
    without a write the end of a file is taken for the end of its last line."""

    def __init__(
        self,
        channel: Channel,
        paths: Sequence[Path],
        *,
        follow: bool,
        stopping: Callable[[], bool],
        report: Callable[[], None] = lambda: None,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._quiet_s = quiet_s
        self.reports = [FileReport(str(path)) for path in paths]
        self._channel = channel
        self._paths = paths
        self._follow = follow
        self._stopping = stopping
        self._report = report
        self._surprises = 0
        self._files: list[OpenFile | None] = [None] * len(paths)

    def run(self) -> None:
        """Until the ends of the files, or with `follow` until stopped; then until all is acknowledged."""
        try:
            while not self._round():
                if self._stopping():
                    raise StopError
        finally:
            for file in self._files:
                if file:
                    os.close(file.fd)
            self._report()

    def _round(self) -> bool:
        """A turn for every path; True when everything is done."""
        read = sum(report.read for report in self.reports)
        try:
            moved = [self._advance(number) for number in range(len(self._paths))]  # all get their turn
            if any(moved):
                self._surprises = self._surprises if read == sum(r.read for r in self.reports) else 0
                return False
            if self._follow or any(file and file.reader.waits for file in self._files):
                self._channel.check()
                time.sleep(FOLLOW_POLL_S)
                return False
            self._channel.drain()
            return True
        except NumberingChangedError:
            # The buffer's Redis lost our place: find it anew, with the server's help.
            self._surprises += 1
            if self._surprises > SURPRISES_MAX:
                raise ShipError(
                    "Somebody else numbers entries of this service: use a --service of its own."
                ) from None
            for number in range(len(self._paths)):
                self._close(number)
            return False

    def _advance(self, number: int) -> bool:
        path, file = self._paths[number], self._files[number]
        if file is None:
            file = self._files[number] = self._find(path, number)
            return file is not None
        replaced = self._is_replaced(path, file)
        if not file.place.fits(file.fd):
            self._close(number)
            return True
        # Without --follow, a last line that lacks its newline is whole when nobody has written for a while.
        still_written = 0 <= now_ms() - file.reference_ms() < self._quiet_s * 1000
        ended = not self._follow and not still_written
        shipped = self._ship(file, number, take_tail=replaced or ended)
        if not shipped and replaced:
            self._close(number)
            return True
        return shipped

    def _close(self, number: int) -> None:
        if file := self._files[number]:
            os.close(file.fd)
        self._files[number] = None

    @staticmethod
    def _is_replaced(path: Path, file: OpenFile) -> bool:
        """The path shows another file by now. Asked before reading, so nothing written before is missed."""
        try:
            return path.stat().st_ino != file.place.inode
        except FileNotFoundError:
            return False  # between two steps of a rotation; what is there can still grow

    # -------------------------------------------------------------- finding the place

    def _find(self, path: Path, number: int) -> OpenFile | None:
        """Open the path, or first the file that was rotated away from it, where shipping stands in it."""
        known = places.places(self._channel.fields())
        if rotated := self._rotated(path, known):
            return self._opened(*rotated, number)
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            if self._follow:
                return None
            raise
        found = self._locate(fd, path, known)
        if found is None:
            os.close(fd)
            return None
        return self._opened(fd, found, number)

    def _opened(self, fd: int, found: Place, number: int) -> OpenFile:
        report = self.reports[number]
        report.resumed_at = found.line
        report.bytes_total += max(0, os.fstat(fd).st_size - found.offset)
        if found.epoch not in report.epochs:
            report.epochs.append(found.epoch)
        return OpenFile(fd, found, LineReader(fd, found.offset), found.open_line)

    def _locate(self, fd: int, path: Path, known: dict[int, Place]) -> Place | None:
        """The place in an open file: kept, told by the server, or the beginning. None: no line yet."""
        first = next(LineReader(fd, 0).lines(1, CHUNK_BYTES_MAX, take_tail=not self._follow), None)
        if first is None:
            return None
        inode = os.fstat(fd).st_ino
        base = places.epoch_of(first.data, inode)
        for epoch in range(base, base + places.SAME_HEAD_MAX):
            kept = known.get(epoch)
            if kept is not None:
                if kept.fits(fd):
                    return kept
                continue  # the file had this beginning before, but went on in another way
            held = self._channel.known(epoch)
            fresh = Place(epoch, inode, str(path), check=places.check_of(fd, 0))
            if held == 0:
                return fresh
            if (behind := self._behind(fd, fresh, held)) is not None:
                return behind
        raise ShipError(f"{path} was rewritten too often with the same first line: use another --service.")

    def _behind(self, fd: int, fresh: Place, lines: int) -> Place | None:
        """The place behind so many lines; None when the file has fewer."""
        reader = LineReader(fd, 0)
        line, offset, ts, terminated = 0, 0, None, True
        reference_ms = int(os.fstat(fd).st_mtime * 1000)
        while line < lines:
            some = list(reader.lines(min(LINES_MAX, lines - line), CHUNK_BYTES_MAX, take_tail=True))
            if not some:
                return None
            for one in some:
                known = recognise(one.data.decode("utf-8", "replace"), reference_ms)
                ts = known.ts if known.ts is not None else ts
            line += len(some)
            offset, terminated = some[-1].end, some[-1].terminated
        return fresh.moved(fd, offset=offset, line=line, open_line=not terminated, ts=ts)

    @staticmethod
    def _rotated(path: Path, known: dict[int, Place]) -> tuple[int, Place] | None:
        """A neighbour that was shipped under this path, was renamed, and has unread bytes."""
        wanted = {place.inode: place for place in known.values() if place.path == str(path)}
        try:
            wanted.pop(path.stat().st_ino, None)
            near = list(os.scandir(path.parent))[:NEAR_FILES_MAX] if wanted else []
        except OSError:
            return None
        for item in near:
            place = wanted.get(item.inode())
            if place is None or not item.is_file() or item.stat().st_size <= place.offset:
                continue
            fd = os.open(item.path, os.O_RDONLY)
            if place.fits(fd):
                return fd, place
            os.close(fd)
        return None

    # -------------------------------------------------------------- shipping

    def _ship(self, file: OpenFile, number: int, *, take_tail: bool) -> bool:
        """Append what the file has up to its present end."""
        shipped = False
        while True:
            if self._stopping():
                raise StopError
            if file.skip_newline and not self._skip_newline(file):
                return shipped
            lines = list(file.reader.lines(LINES_MAX, CHUNK_BYTES_MAX, take_tail=take_tail))
            if not lines:
                return shipped
            place, tails = file.place, []
            ts, reference_ms = place.ts, file.reference_ms()
            for line in lines:
                known = recognise(line.data.decode("utf-8", "replace"), reference_ms)
                if known.ts is None and ts is not None:
                    known = Recognised(ts, known.level, known.fields)
                ts = known.ts
                tails.append(encode(entry(line, known, place.path), now_ms(), stamp=False))
            last = lines[-1]
            moved = place.moved(
                file.fd,
                offset=last.end,
                line=place.line + len(lines),
                open_line=not last.terminated,
                ts=ts,
            )
            self._channel.open(place.epoch, place.line)
            self._channel.append(tails, (place.epoch, place.line + 1), {place.field: moved.dump()})
            file.place = moved
            file.skip_newline = not last.terminated
            shipped = True
            self.reports[number].read += len(lines)
            self.reports[number].bytes_read += moved.offset - place.offset
            self._report()

    @staticmethod
    def _skip_newline(file: OpenFile) -> bool:
        """Behind a line that was shipped without its newline: step over that, once it is there."""
        following = os.pread(file.fd, 2, file.place.offset)
        if not following or following == b"\r":
            return False
        width = 2 if following == b"\r\n" else 1 if following[:1] == b"\n" else 0
        file.reader = LineReader(file.fd, file.place.offset + width)
        file.skip_newline = False
        return True
