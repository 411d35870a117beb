"""Requests and replies of `/ingest` and `/ack` as bytes and values (contract ingest.md §2); no I/O."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from tracehub_sdk.messages import Failed, Known, Probe, ProbeFailed, Refused, Replied, Send
from tracehub_sdk.ranges import Range, merge

RETRY_AFTER_MAX_MS = 60_000.0
NOT_THE_ENTRIES = re.compile(r"(service|epoch|start|lost|batchId)\b")
ENTRY_FIELD = re.compile(r"batch\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server is: `http://host:port` with an optional path in front, and what to show it."""

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, url: str, *, token: str = "", tenant: str = "") -> Endpoint:
        """Raises ValueError for anything but http(s) with a host."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"endpoint must be http://host:port, not {url!r}")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if tenant:
            headers["X-Tenant-ID"] = tenant
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"), headers)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ingest(service: str, send: Send) -> Request:
    """POST /ingest. The members are JSON already and are only joined, without the epoch that they begin with:
    on the wire it stands once, beside the batch."""
    head: dict[str, Any] = {"service": service, "epoch": send.epoch}
    if send.start:
        head["start"] = send.start
    if send.lost:
        head["lost"] = [[note.first, note.last, note.reason] for note in send.lost]
    text = json.dumps(head, separators=(",", ":"))
    if send.entries:
        text = f'{text[:-1]},"batch":[{",".join("{" + member.partition(",")[2] for _, member in send.entries)}]}}'
    return Request("POST", "/ingest", text.encode("utf-8", "replace"))


def ack(service: str, epoch: int | None) -> Request:
    """GET /ack/{service}."""
    query = "" if epoch is None else f"?epoch={epoch}"
    return Request("GET", f"/ack/{quote(service, safe='')}{query}")


def read_reply(send: Send, response: Response | None) -> Replied | Refused | Failed:
    """What an answer to `ingest` means; None: there was none."""
    if response is None:
        return Failed(send.send_id)
    document = _document(response.body)
    if 200 <= response.status < 300:
        try:
            return Replied(
                send.send_id,
                int(document["epoch"]),
                int(document["ackTill"]),
                _missing(document),
                int(document.get("highestSeen", 0)),
                int(document.get("conflicts", 0)),
                int(document.get("queued", 0)) or int(document.get("status") == "queued"),
            )
        except (KeyError, TypeError, ValueError):
            return Refused(send.send_id, response.status, "this is no answer of /ingest", "body")
    error = document.get("error")
    error = error if isinstance(error, dict) else {}
    name = str(error.get("field") or "")
    entry = ENTRY_FIELD.match(name)
    return Refused(
        send.send_id,
        response.status,
        f"{error.get('code', response.status)}: {error.get('message', '')}"[:500],
        name if entry or NOT_THE_ENTRIES.match(name) else "",
        int(entry[1]) if entry else None,
        retry_after_ms(response),
    )


def read_ack(probe: Probe, response: Response | None, following: int) -> Known | ProbeFailed:
    """What an answer to `ack` means. `following`: the buffer's next number, read after the answer."""
    if response is None:
        return ProbeFailed(probe.probe_id)
    if response.status == 404 and _is_unknown(response):
        return Known(probe.probe_id, None, next=following)
    if response.status != 200:
        return ProbeFailed(probe.probe_id, retry_after_ms(response))
    document = _document(response.body)
    try:
        epoch, till = int(document["epoch"]), int(document["ackTill"])
        seen = int(document["highestSeen"])
        return Known(probe.probe_id, epoch, till, seen, _missing(document), following)
    except (KeyError, TypeError, ValueError):
        return ProbeFailed(probe.probe_id)


def _is_unknown(response: Response) -> bool:
    # A 404 of anything but the server itself (a proxy, a wrong path) says nothing about the service.
    error = _document(response.body).get("error")
    return isinstance(error, dict) and error.get("code") in ("unknown_service", "not_found")


def retry_after_ms(response: Response) -> float:
    """The header in milliseconds, at most a minute; 0 when absent or unreadable."""
    try:
        seconds = float(response.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return 0.0 if math.isnan(seconds) else min(RETRY_AFTER_MAX_MS, max(0.0, seconds * 1000))


def _missing(document: Mapping[str, Any]) -> tuple[Range, ...]:
    ranges = [(int(first), int(last)) for first, last in document.get("missingRanges") or ()]
    return tuple(merge(ranges or [(int(seq), int(seq)) for seq in document.get("missing") or ()]))


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
