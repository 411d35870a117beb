"""The producers, end to end: a real Valkey, real HTTP, a strict model server that fails in every way."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
import time
from collections.abc import Iterator

import pytest
from sdk_model_server import HttpModelServer, Refusal
from sdk_valkey import Valkey, eventually, free_port

from tracehub_sdk import AsyncProducer, Producer, TraceHubHandler
from tracehub_sdk.wire import Request, Response


def stored(server: HttpModelServer, service: str = "shop") -> list[str]:
    with server.lock:
        return server.model.messages(service)


def entries(count: int, prefix: str = "m") -> list[dict[str, object]]:
    return [{"message": f"{prefix}{i}"} for i in range(count)]


def texts(count: int, prefix: str = "m") -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


@pytest.fixture
def producer(valkey: Valkey, server: HttpModelServer) -> Iterator[Producer]:
    made = Producer("shop", valkey.url, server.url)
    yield made
    server.fault = lambda method, path: None
    made.close(5)


def test_append_is_sent_acked_and_trimmed(valkey: Valkey, server: HttpModelServer) -> None:
    """The thinnest path: number, buffer, deliver, forget."""
    with Producer("shop", valkey.url, server.url) as producer:
        assert producer.append({"message": "m0"}) == 1
        assert producer.append_many(entries(1201)) == list(range(2, 1203))
        assert producer.flush()
        assert valkey.client.zcard("producer:{shop}") == 0
        meta = valkey.client.hgetall("producer:{shop}:meta")
        assert (meta["next"], meta["start"]) == ("1203", "1203")
        assert stored(server) == ["m0", *texts(1201)]
        assert producer.stats()["ack_till"] == 1202
    assert valkey.client.get("producer:{shop}:sender") is None


def test_member_begins_with_epoch_and_seq(valkey: Valkey, server: HttpModelServer) -> None:
    """What the server's replay reads from the buffer."""
    server.fault = lambda method, path: "drop"
    producer = Producer("shop", valkey.url, server.url)
    try:
        producer.log("warn", "hello", trace_id="t" * 99, colour="red", ts=1_700_000_000_000)
        member = valkey.client.zrange("producer:{shop}", 0, -1)[0]
        assert list(json.loads(member))[:2] == ["epoch", "seq"]
        assert json.loads(member)["attrs"] == {"colour": "red"}
        assert json.loads(member)["trace_id"] == "t" * 64
    finally:
        producer.close(0)


def test_every_kind_of_failure_is_overcome(server: HttpModelServer, producer: Producer) -> None:
    """Lost replies, 429, 503 and broken connections: all arrives, once, without conflict."""
    ways = itertools.cycle(
        ["drop", None, Refusal(503, "x", retry_after=0.01), None, Refusal(429, "y"), "drop", None]
    )

    def fault(method: str, path: str) -> str | None:
        way = next(ways)
        if isinstance(way, Refusal):
            raise way
        return way

    server.fault = fault
    for begin in range(20):
        producer.append_many(entries(150, f"{begin}-"))
    assert producer.flush(60)
    assert stored(server) == [text for begin in range(20) for text in texts(150, f"{begin}-")]
    assert server.model.conflicts == []
    assert producer.stats()["refused"] > 0


def test_poison_and_large_entries_do_not_stop_a_service(
    valkey: Valkey, server: HttpModelServer, producer: Producer
) -> None:
    """400 moves the named entry aside, 413 halves; both are reported lost, the rest arrives."""
    server.model.poison = "poison"
    server.model.body_max = 40_000
    producer.append_many(entries(200))
    producer.append({"message": "poison"})
    producer.append({"message": "x" * 50_000})
    producer.append_many(entries(200, "n"))
    assert producer.flush()
    assert stored(server) == texts(200) + texts(200, "n")
    stream = next(iter(server.model.streams.values()))
    assert stream.lost == {201: "rejected", 202: "rejected"}
    kept = [json.loads(item) for item in valkey.client.lrange("producer:{shop}:rejected", 0, -1)]
    assert sorted(item["entry"]["seq"] for item in kept) == [201, 202]
    assert producer.stats()["rejected"] == 2


def test_server_that_comes_later(valkey: Valkey) -> None:
    """Nobody listens at first; what was appended waits in the buffer."""
    port = free_port()
    producer = Producer("shop", valkey.url, f"http://127.0.0.1:{port}")
    assert producer.append_many(entries(10)) == list(range(1, 11))
    assert not producer.flush(0.1)
    server = HttpModelServer(port)
    try:
        assert producer.flush(60)
        assert stored(server) == texts(10)
    finally:
        producer.close(1)
        server.close()


def test_many_threads_and_instances_share_one_numbering(valkey: Valkey, server: HttpModelServer) -> None:
    """Every number once; exactly one of the instances sends."""
    producers = [Producer("shop", valkey.url, server.url) for _ in range(3)]
    numbers: list[int | None] = []

    def work(producer: Producer, name: str) -> None:
        for i in range(40):
            numbers.append(producer.append({"message": f"{name}-{i}"}))

    threads = [
        threading.Thread(target=work, args=(producer, f"{p}{t}"))
        for p, producer in enumerate(producers)
        for t in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for n in numbers if n) == list(range(1, 361))
    assert all(producer.flush() for producer in producers)
    assert sum(producer.stats()["sending"] for producer in producers) == 1
    assert len(set(stored(server))) == len(stored(server)) == 360
    for producer in producers:
        producer.close()


def test_tail_of_a_dead_instance_is_sent(
    valkey: Valkey, server: HttpModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease runs out, another instance takes over."""
    valkey.client.set("producer:{shop}:sender", "the-dead-one", px=400)
    monkeypatch.setattr("tracehub_sdk.delivery.LEASE_RENEW_MS", 100.0)
    producer = Producer("shop", valkey.url, server.url)
    producer.append_many(entries(5))
    assert not producer.stats()["sending"]
    assert producer.flush(60)
    assert stored(server) == texts(5)
    producer.close()


def test_redis_down_waits_in_memory(own_valkey: Valkey, server: HttpModelServer) -> None:
    """Bounded; what overflows is numbered later and reported lost. Durable buffers lose nothing."""
    producer = Producer("shop", own_valkey.url, server.url, memory_entries_max=5, redis_timeout_s=0.3)
    assert producer.append({"message": "before"}) == 1
    own_valkey.kill()
    for i in range(9):
        assert producer.append({"message": f"down{i}"}) is None
    assert producer.stats()["in_memory"] == 5
    assert producer.stats()["dropped"] == 4
    own_valkey.start()
    eventually(lambda: stored(server) == ["before", *texts(5, "down")])
    assert producer.flush(60)
    assert next(iter(server.model.streams.values())).lost == dict.fromkeys(range(7, 11), "overflow")
    assert producer.append({"message": "after"}) == 11
    assert producer.close(10)
    assert server.model.conflicts == []


def test_wiped_buffer_reports_its_losses(valkey: Valkey, server: HttpModelServer, producer: Producer) -> None:
    """A new epoch, and what the process remembers as unacknowledged of the old one is said to be lost."""
    producer.append_many(entries(3))
    assert producer.flush()
    server.fault = lambda method, path: _refuse()
    producer.append_many(entries(4, "gone"))
    old = int(valkey.client.hget("producer:{shop}:meta", "epoch"))
    valkey.client.delete("producer:{shop}", "producer:{shop}:meta")
    producer.append_many(entries(2, "new"))
    server.fault = lambda method, path: None
    assert producer.flush()
    eventually(lambda: server.model.stream("shop", old).lost == dict.fromkeys(range(4, 8), "buffer_lost"))
    assert stored(server) == texts(3) + texts(2, "new")


def _refuse() -> None:
    raise Refusal(503, "unavailable")


def test_older_buffer_at_start_gets_a_new_epoch(valkey: Valkey, server: HttpModelServer) -> None:
    """The server has seen more than the buffer knows: nothing is overwritten, nothing lost."""
    with Producer("shop", valkey.url, server.url) as producer:
        producer.append_many(entries(5))
        assert producer.flush()
    valkey.client.hset("producer:{shop}:meta", mapping={"next": "3", "start": "3"})
    with Producer("shop", valkey.url, server.url) as producer:
        producer.append_many(entries(2, "again"))
        assert producer.flush()
    assert stored(server) == texts(5) + texts(2, "again")
    assert server.model.conflicts == []
    assert len(server.model.streams) == 2


def test_conflict_is_answered_with_a_new_epoch(
    valkey: Valkey, server: HttpModelServer, producer: Producer
) -> None:
    """The same, where appends came faster than the check."""
    producer.append_many(entries(5))
    assert producer.flush()
    epoch = int(valkey.client.hget("producer:{shop}:meta", "epoch"))
    with server.lock:
        server.model.stream("shop", epoch).rows[7] = {"seq": 7, "message": "of another life"}
    producer.append_many(entries(4, "n"))
    assert producer.flush()
    assert {"of another life", *texts(5), *texts(4, "n")} == set(stored(server))
    assert producer.stats()["renumbered"] == 1


def test_full_buffer_blocks_or_drops(valkey: Valkey) -> None:
    """Policy block gives up after the caller's time-out; drop_oldest lets the oldest go."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    blocking = Producer("a", valkey.url, nowhere, buffer_entries_max=500)
    blocking.append_many(entries(500))
    assert blocking.append({"message": "x"}, timeout_s=0.05) is None
    eventually(lambda: blocking.stats()["dropped"] == 1)
    dropping = Producer("b", valkey.url, nowhere, buffer_entries_max=500, policy="drop_oldest")
    dropping.append_many(entries(500))
    assert dropping.append({"message": "x"}) == 501
    assert valkey.client.hget("producer:{b}:meta", "start") == "2"
    blocking.close(0)
    dropping.close(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": "no spaces"},
        {"service": ""},
        {"endpoint": "ftp://x"},
        {"policy": "maybe"},
        {"buffer_entries_max": 1},
        {"memory_entries_max": -1},
    ],
)
def test_wrong_arguments_are_refused(valkey: Valkey, wrong: dict[str, object]) -> None:
    """The only thing that ever raises."""
    right: dict[str, object] = {"service": "shop", "redis_url": valkey.url, "endpoint": "http://127.0.0.1:1"}
    with pytest.raises(ValueError, match=r"."):
        Producer(**{**right, **wrong})  # type: ignore[arg-type]


def test_transport_that_raises_is_survived(valkey: Valkey, server: HttpModelServer) -> None:
    """A wrapper of the user's own may do anything."""

    class Broken:
        calls = 0

        def exchange(self, request: Request, timeout_s: float) -> Response | None:
            self.calls += 1
            raise RuntimeError("broken wrapper")

        def close(self) -> None:
            pass

    broken = Broken()
    producer = Producer("shop", valkey.url, server.url, transport=broken)
    producer.append({"message": "x"})
    eventually(lambda: broken.calls > 2)
    producer.close(0)


def test_after_close_entries_are_dropped_and_counted(valkey: Valkey, server: HttpModelServer) -> None:
    """Closing twice is fine."""
    producer = Producer("shop", valkey.url, server.url)
    assert producer.close()
    assert producer.close()
    assert producer.append({"message": "late"}) is None
    assert producer.stats()["dropped"] == 1


# ------------------------------------------------------------------ logging


def test_handler_delivers_records(valkey: Valkey, server: HttpModelServer) -> None:
    """Levels, extras and exceptions; its own logging does not go round in circles."""
    handler = TraceHubHandler("shop", valkey.url, server.url)
    logger = logging.getLogger("test.shop")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    own = logging.getLogger("tracehub_sdk")
    own.addHandler(handler)
    try:
        logger.info("hello %s", "you", extra={"request_id": "r1", "colour": "red"})
        try:
            raise KeyError("missing")
        except KeyError:
            logger.exception("it broke")
        own.warning("not this")
        assert handler.producer.flush()
    finally:
        logger.removeHandler(handler)
        own.removeHandler(handler)
        handler.close()
    rows = next(iter(server.model.streams.values())).rows
    assert [rows[n]["message"] for n in sorted(rows)] == ["hello you", "it broke"]
    assert (rows[1]["level"], rows[1]["request_id"], rows[1]["attrs"]["colour"]) == ("info", "r1", "red")
    assert "KeyError: 'missing'" in rows[2]["attrs"]["exception"]
    assert rows[2]["attrs"]["exception_type"] == "KeyError"


def test_handler_blocks_fifty_milliseconds_at_most(valkey: Valkey) -> None:
    """Full buffer, nobody listens: dropped and counted."""
    url = f"http://127.0.0.1:{free_port()}"
    handler = TraceHubHandler("shop", valkey.url, url, buffer_entries_max=500, memory_entries_max=0)
    handler.producer.append_many(entries(500))
    record = logging.makeLogRecord({"name": "shop", "msg": "x", "levelname": "INFO"})
    began = time.monotonic()
    handler.handle(record)
    assert time.monotonic() - began < 0.5  # 50 ms, and what a busy machine adds
    eventually(lambda: handler.producer.stats()["dropped"] == 1)
    handler.producer.close(0)
    handler.close()


# ------------------------------------------------------------------ asyncio


async def test_async_producer_delivers(valkey: Valkey, server: HttpModelServer) -> None:
    """The same promises in an event loop, many tasks at once."""
    async with AsyncProducer("shop", valkey.url, server.url) as producer:
        numbers = await asyncio.gather(*(producer.append({"message": f"m{i}"}) for i in range(50)))
        assert sorted(n for n in numbers if n) == list(range(1, 51))
        await producer.append_many(entries(1200, "n"))
        assert await producer.flush()
        assert sorted(stored(server)) == sorted(texts(50) + texts(1200, "n"))
        assert producer.stats()["ack_till"] == 1250
    assert valkey.client.get("producer:{shop}:sender") is None


async def test_async_producer_overcomes_failures(valkey: Valkey, server: HttpModelServer) -> None:
    """Lost replies and refusals; a poison entry on top."""
    ways = itertools.cycle(["drop", None, Refusal(503, "x", retry_after=0.01), None])

    def fault(method: str, path: str) -> str | None:
        way = next(ways)
        if isinstance(way, Refusal):
            raise way
        return way

    server.fault = fault
    server.model.poison = "poison"
    producer = AsyncProducer("shop", valkey.url, server.url)
    producer.start()
    for begin in range(10):
        await producer.append_many(entries(150, f"{begin}-"))
    await producer.append({"message": "poison"})
    assert await producer.flush(60)
    assert stored(server) == [text for begin in range(10) for text in texts(150, f"{begin}-")]
    assert await producer.close()
    assert await producer.append({"message": "late"}) is None


async def test_async_producer_survives_redis(own_valkey: Valkey, server: HttpModelServer) -> None:
    """Down and up again."""
    async with AsyncProducer("shop", own_valkey.url, server.url, redis_timeout_s=0.3) as producer:
        assert await producer.append({"message": "m0"}) == 1
        await asyncio.to_thread(own_valkey.kill)
        assert await producer.append({"message": "m1"}) is None
        await asyncio.to_thread(own_valkey.start)
        assert await producer.flush(60)
        assert stored(server) == texts(2)
