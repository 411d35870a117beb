"""LogClient against a server that fails on command: what is stored, once; what is dropped, and counted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

import pytest
from sdk_log_server import Failure, LogServer
from sdk_valkey import eventually, free_port

from tracehub_sdk import LogClient
from tracehub_sdk.logentry import Ids, encode

NOW_MS = 1_795_000_000_000


@pytest.fixture
def server(log_server: LogServer) -> LogServer:
    return log_server


def client(server: LogServer, **options: Any) -> LogClient:
    return LogClient(server.url, "th_key", **{"backoff_min_s": 0.01, "service": "shop", **options})


def texts(count: int) -> list[str]:
    return [f"m{n}" for n in range(count)]


def test_what_is_logged_is_stored(server: LogServer) -> None:
    with client(server, tenant="team-a") as logs:
        logs.log("warn", "paid", trace_id="t-1", amount=12.5, metadata={"deep": [1]})
        logs.log_batch([{"message": "two", "service_name": "other", "timestamp": "2024-01-15T10:30:00.123Z"}])
        assert logs.flush(10)
        assert logs.dropped == 0
    headers, (first, second) = server.requests[0]
    assert (headers["authorization"], headers["x-tenant-id"]) == ("Bearer th_key", "team-a")
    assert uuid.UUID(first.pop("id")).version == 7
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "service_name": "shop",
        "level": "warn",
        "message": "paid",
        "trace_id": "t-1",
        "metadata": {"deep": [1], "amount": 12.5},
    }
    assert (second["service_name"], second["timestamp"]) == ("other", "2024-01-15T10:30:00.123Z")


def test_a_thousand_are_sent_at_once(server: LogServer) -> None:
    """Without a flush; the rest waits for company."""
    with client(server, linger_s=3600) as logs:
        logs.log_batch({"message": text} for text in texts(1_001))
        eventually(lambda: len(server.stored) == 1_000)
        assert [len(entries) for _, entries in server.requests] == [1_000]
        assert logs.flush(10)
    assert server.messages() == texts(1_001)


def test_few_are_sent_when_they_are_due(server: LogServer) -> None:
    with client(server, linger_s=0.05) as logs:
        logs.log("info", "m0")
        eventually(lambda: server.messages() == ["m0"])


@pytest.mark.parametrize(
    "failure",
    [Failure(429), Failure(503, {"Retry-After": "0"}), Failure(500), Failure(408), Failure(0)],
    ids=lambda failure: str(failure.status),
)
@pytest.mark.parametrize("after_storing", [False, True])
def test_trouble_is_tried_again(server: LogServer, failure: Failure, after_storing: bool) -> None:
    """With the same ids: what was stored behind a lost answer is there once."""
    server.failures = [Failure(failure.status, failure.headers, None, after_storing)] * 3
    with client(server) as logs:
        logs.log_batch({"message": text} for text in texts(5))
        assert logs.flush(20)
        assert logs.dropped == 0
    assert server.messages() == texts(5)
    sent = [[entry["id"] for entry in entries] for _, entries in server.requests]
    assert len(sent) >= 4
    assert all(ids == sent[0] for ids in sent)


def test_retry_after_is_obeyed(server: LogServer) -> None:
    server.failures = [Failure(503, {"Retry-After": "1"})]
    with client(server) as logs:
        begun = time.monotonic()
        logs.log("info", "m0")
        assert logs.flush(20)
        assert time.monotonic() - begun >= 1


@pytest.mark.parametrize("names_the_bad", [True, False])
def test_a_bad_entry_costs_only_itself(server: LogServer, names_the_bad: bool) -> None:
    """Named by the server, or found by halves."""
    server.poison, server.names_the_bad = "m7", names_the_bad
    with client(server) as logs:
        logs.log_batch({"message": text} for text in texts(20))
        assert not logs.flush(20)
        assert logs.dropped == 1
    assert server.messages() == [text for text in texts(20) if text != "m7"]


@pytest.mark.parametrize("status", [401, 403, 404, 301])
def test_a_refused_batch_is_dropped_and_counted(server: LogServer, status: int) -> None:
    server.failures = [Failure(status)]
    with client(server) as logs:
        logs.log_batch({"message": text} for text in texts(3))
        assert not logs.flush(10)
        assert logs.dropped == 3
        logs.log("info", "later")
        assert logs.flush(10)
    assert server.messages() == ["later"]
    assert len(server.requests) == 2


def test_the_oldest_go_when_there_is_no_room(server: LogServer) -> None:
    server.always = Failure(503)
    with client(server, buffer_entries_max=10, batch_entries=4) as logs:
        logs.log_batch({"message": text} for text in texts(25))
        eventually(lambda: len(server.requests) > 2)
        server.always = None
        assert logs.flush(10)
        assert logs.dropped == 15
    delivered = server.messages()  # a batch that was on its way before the others came is older than they are
    assert len(delivered) == 10
    assert delivered[-6:] == texts(25)[19:]


def test_what_is_on_its_way_counts_as_waiting(server: LogServer) -> None:
    """A request that hangs: its entries cannot go, so the oldest behind them do."""
    server.gate.clear()
    with client(server, buffer_entries_max=10, batch_entries=4) as logs:
        logs.log_batch({"message": text} for text in texts(4))
        eventually(lambda: len(logs._sending) == 4)
        logs.log_batch({"message": text} for text in texts(25)[4:])
        assert logs.dropped == 15
        server.gate.set()
        assert logs.flush(10)
    assert server.messages() == [*texts(4), *texts(25)[19:]]


def test_flush_is_bounded_and_says_so(server: LogServer) -> None:
    server.gate.clear()
    logs = client(server)
    logs.log("info", "m0")
    assert not logs.flush(0.05)
    server.gate.set()
    assert logs.flush(10)
    logs.close()


def test_close_is_bounded_and_counts(server: LogServer) -> None:
    """Nobody answers: what waits and what is on its way is dropped."""
    server.gate.clear()
    logs = client(server, batch_entries=2)
    logs.log_batch({"message": text} for text in texts(5))
    eventually(lambda: len(logs._sending) == 2)
    begun = time.monotonic()
    logs.close(0.1)
    logs.close(0.1)
    assert time.monotonic() - begun < 5
    assert logs.dropped == 5
    logs.log("info", "too late")
    assert logs.dropped == 6
    assert logs._thread is not None
    assert not logs._thread.is_alive()


def test_close_ends_a_pause() -> None:
    """Nobody is there at all, and the next try is far away."""
    logs = LogClient(f"http://127.0.0.1:{free_port()}", backoff_min_s=3600)
    logs.log("info", "m0")
    begun = time.monotonic()
    logs.close(0.2)
    assert time.monotonic() - begun < 5
    assert logs.dropped == 1


class Broken:
    """Cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError


def test_nothing_raises(server: LogServer) -> None:
    logs = client(server)
    logs.log(Broken(), Broken(), odd=Broken(), number=float("nan"), text="\ud800")  # type: ignore[arg-type]
    logs.log_batch(None)  # type: ignore[arg-type]
    logs.log_batch([5])  # type: ignore[list-item]
    logs.log("info", "")
    logs.log("info", "x", level_text=1, timestamp="nonsense", service_name="s" * 200, host="h" * 300)
    logs.flush(10)
    logs.close()
    assert logs.dropped == 2
    odd, empty, long = server.stored.values()
    assert odd["metadata"]["text"] == "\ufffd"
    assert empty["message"] == "(no message)"
    assert (len(long["service_name"]), len(long["host"])) == (100, 255)
    assert long["metadata"]["_ts"] == "nonsense"


def test_a_program_that_ends_flushes(server: LogServer) -> None:
    code = f"import tracehub_sdk; tracehub_sdk.LogClient({server.url!r}).log('info', 'bye')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert server.messages() == ["bye"]


def test_a_program_whose_server_is_away_ends() -> None:
    code = f"import tracehub_sdk; tracehub_sdk.LogClient('http://127.0.0.1:{free_port()}').log('info', 'bye')"
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert time.monotonic() - begun < 15


def test_many_threads_lose_nothing(server: LogServer) -> None:
    with client(server, batch_entries=100) as logs:

        def run(thread: int) -> None:
            for n in range(300):
                logs.log("info", f"t{thread}-{n}")

        threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert logs.flush(20)
    assert sorted(server.messages()) == sorted(f"t{thread}-{n}" for thread in range(8) for n in range(300))


def test_ids_ascend_and_are_version_seven() -> None:
    ids = Ids()
    made = [ids.make(NOW_MS - n % 2, 2**74 - 1 - n) for n in range(100)]
    assert made == sorted(set(made))
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in made} == {(7, uuid.RFC_4122)}
    assert int(made[0].replace("-", "")[:12], 16) == NOW_MS


def test_an_entry_fits_a_batch() -> None:
    """However large it was."""
    entry = {"message": "\x01" * 2_000_000, "metadata": {"a": "x" * 3_000_000}}
    text = encode(entry, "id", NOW_MS, "s")
    assert len(text.encode()) < 8 * 1024 * 1024
    assert json.loads(text)["metadata"]["_cut_bytes"] > 3_000_000
