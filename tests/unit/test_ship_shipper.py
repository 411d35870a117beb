"""Shipping against a buffer in memory and a strict model of the server: each line once, come what may."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "sdks" / "python" / "tests"))

from sdk_model_server import ModelServer, Refusal  # noqa: E402

from apps.ship.channel import BusyError, Channel, StalledError, StopError  # noqa: E402
from apps.ship.lines import KEPT_BYTES_MAX, MESSAGE_BYTES_MAX, Line, LineReader, entry  # noqa: E402
from apps.ship.place import Place, epoch_of, places  # noqa: E402
from apps.ship.recognise import NOTHING  # noqa: E402
from apps.ship.shipper import Shipper  # noqa: E402
from tracehub_sdk.buffer import Lease  # noqa: E402
from tracehub_sdk.memory import MemoryBuffer, State  # noqa: E402
from tracehub_sdk.wire import Request, Response  # noqa: E402

LOGS = ROOT.parent / "shared" / "data" / "logs"


def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.005)


class ToModel:
    """A transport straight into the model server. `down`: nobody answers."""

    def __init__(self, model: ModelServer) -> None:
        self.model, self.lock, self.down = model, threading.Lock(), False

    def exchange(self, request: Request, timeout_s: float) -> Response | None:
        with self.lock:
            if self.down:
                return None
            try:
                if request.method == "POST":
                    return Response(200, {}, json.dumps(self.model.ingest(request.body)).encode())
                epoch = int(request.path.split("epoch=")[1])
                return Response(200, {}, json.dumps(self.model.ack("web", epoch)).encode())
            except Refusal as refusal:
                error = {"error": {"code": refusal.code, "message": "", "field": refusal.field}}
                return Response(refusal.status, {}, json.dumps(error).encode())

    def close(self) -> None:
        pass


class World:
    """One buffer, one server; any number of runs of `ship`."""

    def __init__(self) -> None:
        self.store, self.model = MemoryBuffer(), ModelServer()
        self.transport = ToModel(self.model)
        self.shipper: Shipper | None = None
        self.quiet_s = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def ship(self, *paths: Path, follow: bool = False, patience_s: float = 5.0) -> Shipper:
        channel = Channel(
            "web",
            (self.store, self.store),
            (self.transport, self.transport),
            patience_s=patience_s,
            stopping=self._stop.is_set,
        )
        self.shipper = Shipper(
            channel, paths, follow=follow, stopping=self._stop.is_set, quiet_s=self.quiet_s
        )
        try:
            channel.start()
            self.shipper.run()
        finally:
            self._stop.clear()
            channel.settle(0.3 if self.transport.down else 5.0)
            channel.stop()
        return self.shipper

    def follow(self, *paths: Path) -> None:
        def run() -> None:
            try:
                self.ship(*paths, follow=True, patience_s=0)
            except StopError:
                pass
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(10)
            assert not self._thread.is_alive()
        if self.error:
            raise self.error

    def stored(self) -> list[str]:
        with self.transport.lock:
            return self.model.messages("web")

    def rows(self) -> list[dict[str, Any]]:
        return [
            row
            for key in sorted(self.model.streams)
            for _, row in sorted(self.model.streams[key].rows.items())
        ]


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def quick_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at every 10 ms here."""
    monkeypatch.setattr("apps.ship.shipper.FOLLOW_POLL_S", 0.01)


def write(path: Path, *lines: str, mode: str = "a") -> Path:
    with path.open(mode) as file:
        file.write("".join(lines))
    return path


def numbered(prefix: str, count: int, begin: int = 0) -> list[str]:
    return [f"2024-01-01 00:00:00 INFO {prefix} {i}\n" for i in range(begin, begin + count)]


def test_line_number_is_seq(world: World, tmp_path: Path) -> None:
    """Also of empty lines; the last line needs no newline; CRLF is no part of a line."""
    path = tmp_path / "a.log"
    path.write_bytes(b"one\r\n\r\n\nfour\rfour\nlast")
    world.ship(path)
    assert [(row["seq"], row["message"]) for row in world.rows()] == [
        (1, "one"),
        (2, ""),
        (3, ""),
        (4, "four\rfour"),
        (5, "last"),
    ]


@pytest.mark.parametrize("name", ["apache", "hdfs", "openssh", "openstack"])
def test_real_files_arrive_line_for_line(world: World, name: str) -> None:
    """And a second run ships nothing."""
    path = LOGS / f"{name}.log"
    if not path.exists():
        pytest.skip(f"the real log files are not at {LOGS.name}/ beside the repository")
    world.ship(path)
    assert world.stored() == path.read_bytes().decode().replace("\r\n", "\n").splitlines()
    assert all("ts" in row for row in world.rows())
    again = world.ship(path)
    assert (again.reports[0].read, again.reports[0].resumed_at) == (0, len(world.stored()))


def test_restart_goes_on_where_it_stopped(world: World, tmp_path: Path) -> None:
    """Lines that came meanwhile, and only these."""
    path = write(tmp_path / "a.log", *numbered("x", 700))
    world.ship(path)
    write(path, *numbered("x", 5, 700))
    assert world.ship(path).reports[0].read == 5
    assert len(world.stored()) == 705
    assert len(world.model.streams) == 1


@pytest.mark.parametrize("held", [0, 300, 1000])
def test_lost_place_is_asked_of_the_server(world: World, tmp_path: Path, held: int) -> None:
    """The buffer's Redis is gone with the place; nothing is stored twice, nothing skipped."""
    path = write(tmp_path / "a.log", *numbered("x", held or 1))
    if held:
        world.ship(path)
    world.store.state = State()
    write(path, *numbered("x", 1000 - held, max(1, held)))
    lines = path.read_text().splitlines()
    shipper = world.ship(path)
    assert shipper.reports[0].resumed_at == held
    assert world.stored() == lines
    assert len(world.model.streams) == 1
    assert world.model.conflicts == []


def test_buffer_wiped_with_unsent_lines(world: World, tmp_path: Path) -> None:
    """The server was away, the lines were only in the buffer, the buffer is gone: read again."""
    path = write(tmp_path / "a.log", *numbered("x", 50))
    world.transport.down = True
    world.follow(path)
    world.transport.down = False
    eventually(lambda: len(world.stored()) == 50)
    world.transport.down = True
    write(path, *numbered("x", 10, 50))
    eventually(lambda: world.shipper and world.shipper.reports[0].read == 60)
    holder = world.store.state.holder
    world.store.state = State(holder=holder, held_till_ms=1e12)
    world.transport.down = False
    eventually(lambda: len(world.stored()) == 60)
    assert world.model.conflicts == []


def test_open_last_line_is_completed(world: World, tmp_path: Path) -> None:
    """Its newline, coming later, makes no empty line."""
    path = write(tmp_path / "a.log", "one\ntwo")
    world.ship(path)
    write(path, "\nthree\n")
    world.ship(path)
    assert world.stored() == ["one", "two", "three"]
    write(path, "fo", "")
    world.ship(path)
    write(path, "ur\n")
    world.ship(path)
    assert world.stored() == ["one", "two", "three", "fo", "ur"]


def test_line_that_is_being_written_is_waited_for(world: World, tmp_path: Path) -> None:
    """A last line without its newline is whole only when nobody has written for a while."""
    path = write(tmp_path / "a.log", "one\ntwo-par", "")
    world.quiet_s = 2.0
    begun = time.monotonic()
    shipping = threading.Thread(target=world.ship, args=(path,))
    shipping.start()
    eventually(lambda: world.stored() == ["one"])
    write(path, "tial\nthree", "")
    shipping.join(20)
    assert world.stored() == ["one", "two-partial", "three"]
    assert time.monotonic() - begun >= 2.0
    os.utime(path, (time.time() + 9_000, time.time() + 9_000))
    world.ship(path)  # a file from the future does not hold it up


def test_follow_waits_for_the_newline(world: World, tmp_path: Path) -> None:
    """A line that is being written is not cut in two."""
    path = tmp_path / "a.log"
    world.follow(path)
    write(path, "one\ntw")
    eventually(lambda: world.stored() == ["one"])
    write(path, "o\n")
    eventually(lambda: world.stored() == ["one", "two"])


def test_follow_crosses_a_rotation(world: World, tmp_path: Path) -> None:
    """The old file to its end, then the new one with an epoch of its own."""
    path = write(tmp_path / "a.log", "old 1\n")
    world.follow(path)
    eventually(lambda: world.stored() == ["old 1"])
    with path.open("a") as still_open:
        os.rename(path, tmp_path / "a.log.1")
        still_open.write("old 2\n")
        still_open.flush()
        write(path, "new 1\n", "new 2\n")
    eventually(lambda: len(world.stored()) == 4)
    assert sorted(world.stored()) == ["new 1", "new 2", "old 1", "old 2"]
    assert len(world.model.streams) == 2


def test_rotation_while_stopped_is_made_up(world: World, tmp_path: Path) -> None:
    """The renamed file is found by its inode, and its rest shipped first."""
    path = write(tmp_path / "a.log", "old 1\n")
    world.ship(path)
    write(path, "old 2\n")
    os.rename(path, tmp_path / "a.log.1")
    write(path, "new 1\n")
    world.ship(path)
    assert sorted(world.stored()) == ["new 1", "old 1", "old 2"]
    world.ship(path)
    assert len(world.stored()) == 3


@pytest.mark.parametrize("content", ["other\n", "one\nanother\n", "one\ntwo and more than before\n"])
def test_truncated_file_is_a_new_file(world: World, tmp_path: Path, content: str) -> None:
    """Whether it begins differently, or with the same line but goes on differently, shorter or longer."""
    path = write(tmp_path / "a.log", "one\ntwo\nthree\n")
    world.ship(path)
    write(path, content, mode="w")
    world.ship(path)
    assert sorted(world.stored()) == sorted(["one", "two", "three", *content.splitlines()])
    assert len(world.model.streams) == 2
    world.ship(path)
    assert len(world.model.streams) == 2


def test_follow_sees_a_truncation(world: World, tmp_path: Path) -> None:
    """copytruncate: the same inode starts again."""
    path = write(tmp_path / "a.log", *numbered("x", 3))
    world.follow(path)
    eventually(lambda: len(world.stored()) == 3)
    write(path, *numbered("y", 2), mode="w")
    eventually(lambda: len(world.stored()) == 5)


def test_several_files_take_turns(world: World, tmp_path: Path) -> None:
    """One service, an epoch each; also while following."""
    paths = [write(tmp_path / f"{n}.log", *numbered(n, 600)) for n in "abc"]
    world.ship(*paths)
    assert sorted(world.stored()) == sorted(line[:-1] for n in "abc" for line in numbered(n, 600))
    assert len(world.model.streams) == 3
    world.follow(*paths)
    for path in paths:
        write(path, "more\n")
    eventually(lambda: world.stored().count("more") == 3)


def test_lines_without_time_go_by_the_one_before(world: World, tmp_path: Path) -> None:
    """A stack trace stays with its error, also across a restart."""
    path = write(tmp_path / "a.log", "2024-01-01 00:00:00 ERROR x\n", "  at y\n")
    world.ship(path)
    write(path, "  at z\n")
    world.ship(path)
    assert [row["ts"] for row in world.rows()] == [1_704_067_200_000] * 3


def test_empty_and_missing_files(world: World, tmp_path: Path) -> None:
    """Nothing to ship is no error; a file that is not there is."""
    assert world.ship(write(tmp_path / "empty.log")).reports[0].read == 0
    with pytest.raises(FileNotFoundError):
        world.ship(tmp_path / "missing.log")


def test_server_away_is_said(world: World, tmp_path: Path) -> None:
    """After the patience is over; what was read is in the buffer, and the next run delivers it."""
    path = write(tmp_path / "a.log", "one\n")
    world.ship(path)
    write(path, "two\n")
    world.transport.down = True
    with pytest.raises(StalledError):
        world.ship(path, patience_s=0.2)
    world.transport.down = False
    world.ship(path)
    assert world.stored() == ["one", "two"]


def test_second_shipper_is_refused(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sender per service."""
    monkeypatch.setattr("apps.ship.channel.LEASE_WAIT_S", 0.1)
    world.store.execute(Lease("somebody"))
    with pytest.raises(BusyError):
        world.ship(write(tmp_path / "a.log", "x\n"))


# ------------------------------------------------------------------ lines and places


def read_all(path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    monkeypatch.setattr("apps.ship.lines.BLOCK_BYTES", block)
    fd = os.open(path, os.O_RDONLY)
    try:
        return list(LineReader(fd, 0).lines(10**6, 10**9, take_tail=True))
    finally:
        os.close(fd)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60).map(lambda b: b.replace(b"a", b"\n").replace(b"b", b"\r\n")), st.integers(1, 9))
def test_reader_agrees_with_split(tmp_path_factory: pytest.TempPathFactory, data: bytes, block: int) -> None:
    """Whatever the blocks are, lines and offsets are those of splitting the whole."""
    path = tmp_path_factory.mktemp("lines") / "f"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        lines = read_all(path, block, patch)
    parts = data.split(b"\n")
    tail = parts.pop()
    want = [part[:-1] if part.endswith(b"\r") else part for part in parts] + ([tail] if tail else [])
    assert [line.data for line in lines] == want
    assert all(data[line.end - 1 : line.end] == b"\n" for line in lines if line.terminated)
    assert not lines or lines[-1].end == len(data)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b""])
def test_huge_line_keeps_memory_flat(tmp_path: Path, newline: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 MiB the first 1.5 are kept, the size is told, and the next line is right."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * (8 << 20) + newline + (b"next" if newline else b""))
    lines = read_all(path, 256 * 1024, monkeypatch)
    assert (len(lines[0].data), lines[0].size) == (KEPT_BYTES_MAX, 8 << 20)
    assert [line.data for line in lines[1:]] == ([b"next"] if newline else [])
    assert lines[-1].end == path.stat().st_size
    made = entry(lines[0], NOTHING, "f")
    assert len(str(made["message"])) == MESSAGE_BYTES_MAX
    assert made["attrs"]["line_bytes"] == 8 << 20  # type: ignore[index]


@given(st.binary(max_size=200))
def test_bytes_are_recoverable(data: bytes) -> None:
    """From the message alone when it is clean UTF-8, else from the attribute."""
    made = entry(Line(data, len(data), 0, True), NOTHING, "f")
    kept = made["attrs"].get("line_base64")  # type: ignore[attr-defined]
    assert (base64.b64decode(kept) if kept else str(made["message"]).encode()) == data
    json.dumps(made, ensure_ascii=False).encode()


def test_newer_files_have_greater_epochs() -> None:
    """By the second of their first line; without a full date they are below all that have one."""
    older = epoch_of(b"2024-01-01 00:00:00 INFO x", 1)
    newer = epoch_of(b"2024-01-01 00:00:01 INFO x", 1)
    dateless = epoch_of(b"Jan  1 00:00:00 host p: x", 1)
    assert 0 < dateless < older < newer < 2**53
    assert epoch_of(b"2024-01-01 00:00:00 INFO x", 2) != older


def test_unreadable_places_are_passed_over() -> None:
    """The meta hash may hold anything."""
    place = Place(7, 1, "/x", offset=3)
    fields = {"epoch": "7", place.field: place.dump(), "file:8": "{}", "file:9": "no"}
    assert places(fields) == {7: place}
