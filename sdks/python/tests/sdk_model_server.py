"""A dumb, strict server of ingest.md §2: what the SDK is tested against. It keeps everything in dicts."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

SERVICE = re.compile(r"[A-Za-z0-9._:/-]{1,100}")
BODY_MAX = 4 * 1024 * 1024
TEXTS = ("level", "message", "request_id", "trace_id", "span_id", "user_id", "category", "source", "host")
LENGTHS = {"trace_id": 64, "request_id": 64, "span_id": 32, "user_id": 128, "source": 255, "host": 255}


class Refusal(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, code: str, field_: str = "", retry_after: float | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.field, self.retry_after = status, code, field_, retry_after


@dataclass
class Stream:
    """One epoch of one service."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    start: int = 1

    @property
    def ack_till(self) -> int:
        n = 0
        while n + 1 in self.rows or n + 1 in self.lost:
            n += 1
        return n

    @property
    def highest(self) -> int:
        return max([0, *self.rows, *self.lost])

    def missing(self) -> list[int]:
        return [n for n in range(1, self.highest) if n not in self.rows and n not in self.lost]


@dataclass
class ModelServer:
    """The ledger and its rules. `body_max`, `poison` make refusals; `queue_only` answers 202."""

    streams: dict[tuple[str, int], Stream] = field(default_factory=dict)
    poison: str = ""
    body_max: int = BODY_MAX
    entries_max: int = 5000
    queue_only: bool = False
    waiting: list[tuple[str, int, list[dict[str, Any]]]] = field(default_factory=list)
    conflicts: list[tuple[int, int]] = field(default_factory=list)
    acknowledged: dict[tuple[str, int], int] = field(default_factory=dict)
    requests: int = 0

    def stream(self, service: str, epoch: int) -> Stream:
        return self.streams.setdefault((service, epoch), Stream())

    def ingest(self, body: bytes) -> dict[str, Any]:
        self.requests += 1
        if len(body) > self.body_max:
            raise Refusal(413, "too_large")
        try:
            doc = json.loads(body, parse_constant=self._constant)
        except ValueError as error:
            raise Refusal(400, "invalid_json") from error
        batch = doc.get("batch") or []
        self._check(doc, batch)
        service, epoch = doc["service"], doc.get("epoch", 0)
        stream = self.stream(service, epoch)
        queued = 0
        if self.queue_only:
            self.waiting.append((service, epoch, batch))
            counts, queued = [0, 0, 0], len(batch)
        else:
            counts = self.store(stream, epoch, batch)
        if "start" in doc:
            stream.start = max(stream.start, doc["start"])
            for n in range(1, stream.start):
                if n not in stream.rows:
                    stream.lost.setdefault(n, "start")
        for first, last, reason in doc.get("lost") or []:
            for n in range(first, last + 1):
                if n not in stream.rows:
                    stream.lost.setdefault(n, reason)
        return self.answer(service, epoch) | {
            "accepted": counts[0],
            "duplicates": counts[1],
            "conflicts": counts[2],
            "queued": queued,
        }

    def answer(self, service: str, epoch: int) -> dict[str, Any]:
        stream = self.stream(service, epoch)
        held = {e["seq"] for s, ep, batch in self.waiting if (s, ep) == (service, epoch) for e in batch}
        missing = [n for n in stream.missing() if n not in held]
        key = (service, epoch)
        self.acknowledged[key] = max(self.acknowledged.get(key, 0), stream.ack_till)
        return {
            "service": service,
            "epoch": epoch,
            "ackTill": stream.ack_till,
            "missing": missing[:1000],
            "missingRanges": [[n, n] for n in missing[:1000]],
            "missingCount": len(missing),
            "highestSeen": max([stream.highest, *held]),
            "status": "partial" if missing else "ok",
        }

    @staticmethod
    def _constant(name: str) -> float:
        raise ValueError(name)

    def _check(self, doc: dict[str, Any], batch: list[dict[str, Any]]) -> None:
        if not SERVICE.fullmatch(doc.get("service") or ""):
            raise Refusal(400, "invalid_field", "service")
        if not batch and not doc.get("lost"):
            raise Refusal(400, "invalid_field", "batch")
        if len(batch) > self.entries_max:
            raise Refusal(413, "too_large")
        for i, entry in enumerate(batch):
            if type(entry.get("seq")) is not int or entry["seq"] < 1:
                raise Refusal(400, "invalid_field", f"batch[{i}].seq")
            for name in TEXTS:
                value = entry.get(name, "")
                if not isinstance(value, str) or len(value) > LENGTHS.get(name, 1 << 20):
                    raise Refusal(400, "invalid_field", f"batch[{i}].{name}")
            if entry.get("epoch", doc.get("epoch", 0)) != doc.get("epoch", 0):
                raise Refusal(400, "invalid_field", f"batch[{i}].epoch")
            if self.poison and self.poison in entry["message"]:
                raise Refusal(400, "invalid_field", f"batch[{i}].message")
        if "start" in doc and batch and doc["start"] > min(e["seq"] for e in batch):
            raise Refusal(400, "invalid_field", "start")

    def store(self, stream: Stream, epoch: int, batch: list[dict[str, Any]]) -> list[int]:
        counts = [0, 0, 0]
        for entry in batch:
            seq = entry["seq"]
            old = stream.rows.get(seq)
            if old is None:
                stream.rows[seq] = entry
                stream.lost.pop(seq, None)
                counts[0] += 1
            elif all(old.get(k) == entry.get(k) for k in ("level", "message", "ts")):
                counts[1] += 1
            else:
                counts[2] += 1
                self.conflicts.append((epoch, seq))
        return counts

    def drain(self) -> None:
        """The worker stores what waits."""
        for service, epoch, batch in self.waiting:
            self.store(self.stream(service, epoch), epoch, batch)
        self.waiting.clear()

    def ack(self, service: str, epoch: int | None) -> dict[str, Any]:
        if epoch is None:
            epochs = [e for s, e in self.streams if s == service]
            if not epochs:
                raise Refusal(404, "unknown_service")
            epoch = max(epochs)
        elif (service, epoch) not in self.streams:
            raise Refusal(404, "unknown_service")
        return self.answer(service, epoch)

    def messages(self, service: str) -> list[str]:
        """All stored messages of a service, by epoch and number."""
        keys = sorted(key for key in self.streams if key[0] == service)
        return [self.streams[k].rows[n]["message"] for k in keys for n in sorted(self.streams[k].rows)]


class HttpModelServer:
    """The model behind HTTP on a free loopback port. `fault(method, path)` may raise a Refusal or return
    "drop" (store, but answer nothing)."""

    def __init__(self, port: int = 0) -> None:
        self.model = ModelServer()
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(lambda: outer.model.ingest(body))

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                epoch = parse_qs(parts.query).get("epoch")
                service = unquote(parts.path.removeprefix("/ack/"))
                self._answer(lambda: outer.model.ack(service, int(epoch[0]) if epoch else None))

            def _answer(self, act: Callable[[], dict[str, Any]]) -> None:
                headers = {}
                try:
                    with outer.lock:
                        drop = outer.fault(self.command, self.path)
                        status, doc = 200, act()
                        if doc.get("queued"):
                            status = 202
                except Refusal as refusal:
                    drop = None
                    status, doc = refusal.status, {"error": {"code": refusal.code, "message": "refused"}}
                    if refusal.field:
                        doc["error"]["field"] = refusal.field
                    if refusal.retry_after is not None:
                        headers["Retry-After"] = str(refusal.retry_after)
                if drop:
                    self.close_connection = True
                    return
                data = json.dumps(doc).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
