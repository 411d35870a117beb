"""A small, strict server of `POST /api/v1/logs/batch` that fails on command."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTRIES_MAX = 5_000


@dataclass
class Failure:
    """An answer that is not 201; `after_storing`: what was sent is stored all the same. Status 0: no answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    after_storing: bool = False


class LogServer:
    """`failures` are used up one by one; while `closed`, requests wait for `open`."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[dict[str, str], list[dict[str, Any]]]] = []
        self.failures: list[Failure] = []
        self.poison = ""
        self.names_the_bad = True
        self.always: Failure | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                owner.gate.wait(30)
                answer = owner.take(self.path, headers, body)
                if not answer.status:
                    self.close_connection = True
                    return
                content = json.dumps(answer.body or {}).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Failure:
        """The answer to one request."""
        with self.lock:
            assert path == "/api/v1/logs/batch"
            entries = json.loads(body)["entries"]
            self.requests.append((headers, entries))
            failure = self.failures.pop(0) if self.failures else self.always
            if failure is not None and not failure.after_storing:
                return failure
            for at, entry in enumerate(entries):
                if self.poison and self.poison in entry["message"]:
                    name = f"entries[{at}].message" if self.names_the_bad else "entries"
                    error = {"code": "invalid_request", "message": "is bad", "field": name}
                    return Failure(400, body={"success": False, "error": error})
            assert len(entries) <= ENTRIES_MAX
            for entry in entries:
                self.stored.setdefault(entry["id"], entry)
            return failure or Failure(201, body={"success": True, "data": {"count": len(entries)}})

    def messages(self) -> list[str]:
        """What is stored, in the order of its arrival."""
        with self.lock:
            return [entry["message"] for entry in self.stored.values()]

    def close(self) -> None:
        self.gate.set()
        self.http.shutdown()
        self.http.server_close()
