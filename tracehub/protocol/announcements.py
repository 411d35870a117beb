"""What receivers of alerts are told (log-service.md §7): the event, and its texts for Slack, e-mail, PagerDuty. Pure.

The event is the webhook's body, made once when an alert is triggered, at most BODY_BYTES_MAX: what is too long loses
its metadata first, then the ends of its texts, and says `"truncated": true`. The other texts are made from it. Each
says so where the ledger knows that its window is not whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tracehub.protocol.alerts import Alert
from tracehub.protocol.times import iso

BODY_BYTES_MAX: Final = 20 * 1024
TRIGGERED: Final = "alert.triggered"
TEST: Final = "alert.test"
SERVICES_SHOWN_MAX: Final = 20
MESSAGE_CHARS_MAX: Final = 2_000
SAMPLE_CHARS_MAX: Final = 500
SECTION_CHARS_MAX: Final = 3_000
SUMMARY_CHARS_MAX: Final = 1_024
PAGERDUTY_SEVERITIES: Final = {"INFO": "info", "WARN": "warning", "ERROR": "error", "CRITICAL": "critical"}
_ENTRY_KEPT: Final = (
    "id",
    "tenant_id",
    "service_name",
    "level",
    "severity",
    "timestamp",
    "created_at",
    "door",
)
_encode = msgspec.json.Encoder().encode

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was found in an alert's window (Unix ms, both ends inclusive). `known`: a Completeness as it is shown."""

    count: int
    start_ms: int
    end_ms: int
    first: Document | None
    last: Document | None
    known: Document


def event(alert: Alert, seen: Sighting, public_url: str, kind: str = TRIGGERED) -> bytes:
    """The body of a webhook, JSON."""
    rule = alert.rule
    data: Document = {
        "alert": {
            "id": alert.id,
            "name": rule.name,
            "description": rule.description,
            "severity": rule.severity,
            "tenant_id": alert.tenant_id,
        },
        "count": seen.count,
        "threshold": rule.threshold,
        "window_mins": rule.window_mins,
        "window_start": iso(seen.start_ms),
        "window_end": iso(seen.end_ms),
        "first": seen.first,
        "last": seen.last,
        "filter": rule.filter,
        "completeness": seen.known,
        "url": f"{public_url.rstrip('/')}/alerts/{alert.id}",
    }
    return _fitting({"type": kind, "timestamp": iso(seen.end_ms), "data": data})


def _fitting(document: Document) -> bytes:
    """Encoded, and cut step by step until it is short enough."""
    body = _encode(document)
    for cut in (_cut_services, _cut_metadata, _cut_messages, _cut_entries, _cut_filter):
        if len(body) <= BODY_BYTES_MAX:
            break
        data = cut(document["data"])
        document = {**document, "data": {**data, "truncated": True}}
        body = _encode(document)
    assert len(body) <= BODY_BYTES_MAX, "the last step leaves nothing that may be long"
    return body


def _cut_services(data: Document) -> Document:
    known = data["completeness"]
    return {**data, "completeness": {**known, "services": known["services"][:SERVICES_SHOWN_MAX]}}


def _each_entry(data: Document, change: Any) -> Document:
    return {**data, **{name: data[name] and change(data[name]) for name in ("first", "last")}}


def _cut_metadata(data: Document) -> Document:
    return _each_entry(data, lambda e: {name: value for name, value in e.items() if name != "metadata"})


def _cut_messages(data: Document) -> Document:
    return _each_entry(data, lambda e: {**e, "message": cut(e["message"], MESSAGE_CHARS_MAX)})


def _cut_entries(data: Document) -> Document:
    """Only what has a short text by its nature."""
    return _each_entry(
        data,
        lambda e: {
            **{name: e[name] for name in _ENTRY_KEPT if name in e},
            "message": cut(e["message"], SAMPLE_CHARS_MAX // 4),
        },
    )


def _cut_filter(data: Document) -> Document:
    alert = {**data["alert"], "description": cut(data["alert"]["description"], SAMPLE_CHARS_MAX)}
    return {**data, "filter": None, "alert": alert}


def cut(text: str, most: int) -> str:
    """At most so many characters; an ellipsis says that there were more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def incomplete(known: Mapping[str, Any]) -> str:
    """What is missing in a window, in words; nothing where it is whole."""
    if known["complete"]:
        return ""
    parts = [f"{known['missing']} missing"]
    parts += [f"{known['lost']} lost"] if known["lost"] else []
    if known["inFlight"] is None:
        parts.append("in flight unknown")
    elif known["inFlight"]:
        parts.append(f"{known['inFlight']} in flight")
    return "incomplete window: " + ", ".join(parts)


def headline(data: Mapping[str, Any]) -> str:
    """`[ERROR] name: 12 matches in 5 min`, on one line."""
    alert, count = data["alert"], data["count"]
    matches = "match" if count == 1 else "matches"
    return f"[{alert['severity']}] {one_line(alert['name'])}: {count} {matches} in {data['window_mins']} min"


def one_line(text: str) -> str:
    """Text without line ends and other invisible signs: it may stand in a header."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _details(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the texts say beside the headline."""
    found = [
        ("Window", f"{data['window_start']} to {data['window_end']}"),
        ("Threshold", str(data["threshold"])),
    ]
    for title, name in (("First", "first"), ("Last", "last")):
        if entry := data[name]:
            words = f"{entry['timestamp']} {entry['level']} {entry['service_name']}: {entry['message']}"
            found.append((title, cut(words, SAMPLE_CHARS_MAX)))
    return found


def slack(document: Mapping[str, Any]) -> Document:
    """What a Slack webhook takes."""
    data = document["data"]
    head = f"{headline(data)} (threshold {data['threshold']})"
    gap = incomplete(data["completeness"])
    text = _escaped(f"{head} ({gap})" if gap else head)
    lines = [f"*{title}:* {_escaped(words)}" for title, words in _details(data)]
    if document["type"] == TEST:
        lines.insert(0, "This is a test.")
    if data["alert"]["description"]:
        lines.insert(0, cut(_escaped(data["alert"]["description"]), SAMPLE_CHARS_MAX))
    return {
        "text": text,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": cut(text, SECTION_CHARS_MAX)}},
            {"type": "section", "text": {"type": "mrkdwn", "text": cut("\n".join(lines), SECTION_CHARS_MAX)}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": f"<{data['url']}|TraceHub>"}]},
        ],
    }


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def subject(document: Mapping[str, Any]) -> str:
    """The subject of an e-mail."""
    return f"[TraceHub] {headline(document['data'])}"


def mail_text(document: Mapping[str, Any]) -> str:
    """The text of an e-mail."""
    data = document["data"]
    lines = [f"{headline(data)} (threshold {data['threshold']})"]
    if document["type"] == TEST:
        lines.append("This is a test.")
    if gap := incomplete(data["completeness"]):
        lines.append(f"({gap})")
    if data["alert"]["description"]:
        lines += ["", data["alert"]["description"]]
    lines += ["", *(f"{title}: {words}" for title, words in _details(data)), "", data["url"], ""]
    return "\n".join(lines)


def pagerduty(document: Mapping[str, Any], routing_key: str) -> Document:
    """What the Events API v2 of PagerDuty takes."""
    data = document["data"]
    gap = incomplete(data["completeness"])
    alert = data["alert"]
    told = ("count", "threshold", "window_mins", "window_start", "window_end", "first", "last", "filter")
    return {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": f"tracehub:{alert['id']}",
        "client": "TraceHub",
        "client_url": data["url"],
        "payload": {
            "summary": cut(f"{headline(data)} ({gap})" if gap else headline(data), SUMMARY_CHARS_MAX),
            "source": "tracehub",
            "severity": PAGERDUTY_SEVERITIES[alert["severity"]],
            "timestamp": document["timestamp"],
            "custom_details": {
                "type": document["type"],
                "description": alert["description"],
                "completeness": data["completeness"],
                **{name: data[name] for name in told},
            },
        },
    }
