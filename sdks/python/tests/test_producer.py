"""The threaded producer, end to end: a real Valkey, real HTTP, a strict model server."""

from __future__ import annotations

from sdk_model_server import HttpModelServer
from sdk_valkey import Valkey
from tracehub_sdk import Producer


def messages(server: HttpModelServer, service: str = "shop") -> list[str]:
    with server.lock:
        return server.model.messages(service)


def test_append_is_sent_acked_and_trimmed(valkey: Valkey, server: HttpModelServer) -> None:
    """The thinnest path: number, buffer, deliver, forget."""
    with Producer("shop", valkey.url, server.url) as producer:
        assert producer.append({"message": "one"}) == 1
        assert producer.append_many([{"message": str(i)} for i in range(2, 1203)]) == list(range(2, 1203))
        assert producer.flush()
        assert valkey.client.zcard("producer:{shop}") == 0
        meta = valkey.client.hgetall("producer:{shop}:meta")
        assert (meta["next"], meta["start"]) == ("1203", "1203")
        assert messages(server) == ["one", *map(str, range(2, 1203))]
        assert producer.stats()["ack_till"] == 1202
    assert valkey.client.get("producer:{shop}:sender") is None
