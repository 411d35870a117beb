"""What receivers of alerts are told (log-service.md §7)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tracehub.protocol.alerts import Alert, AlertRule
from tracehub.protocol.announcements import (
    BODY_BYTES_MAX,
    Sighting,
    event,
    incomplete,
    mail_text,
    pagerduty,
    slack,
    subject,
)

WHOLE = {"complete": True, "missing": 0, "lost": 0, "inFlight": 0, "services": []}
GAPS = {"complete": False, "missing": 2, "lost": 0, "inFlight": 0, "services": []}


def entry(**more: Any) -> dict[str, Any]:
    return {
        "id": "i", "tenant_id": "t", "service_name": "shop", "message": "m", "timestamp": "T1",
        "created_at": "T2", "door": "logs", "level": "ERROR", "severity": 17, **more,
    }  # fmt: skip


def told(*, known: dict[str, Any] = WHOLE, one: dict[str, Any] | None = None, **rule: Any) -> dict[str, Any]:
    made = AlertRule(**{"name": "name", "filter": {}, "threshold": 10, **rule})
    body = event(
        Alert("a", "t", made, 0, 0), Sighting(12, 0, 300_000, one or entry(), entry(), known), "http://h/"
    )
    assert len(body) <= BODY_BYTES_MAX
    document: dict[str, Any] = json.loads(body)
    return document


def test_slack() -> None:
    assert slack(told())["text"] == "[ERROR] name: 12 matches in 5 min (threshold 10)"
    assert slack(told(name="<!channel> & co"))["text"].startswith("[ERROR] &lt;!channel&gt; &amp; co: 12")
    assert slack(told(known=GAPS))["text"].endswith("(threshold 10) (incomplete window: 2 missing)")
    blocks = json.dumps(slack(told(one=entry(message="<@everybody>"), description="<b>")))
    assert "<@" not in blocks
    assert "<b>" not in blocks


def test_mail() -> None:
    document = told(name="line\r\nBcc: x@example.org", severity="WARN", known=GAPS)
    assert subject(document) == "[TraceHub] [WARN] line Bcc: x@example.org: 12 matches in 5 min"
    assert "incomplete window: 2 missing" in mail_text(document)
    assert "incomplete" not in mail_text(told())


@pytest.mark.parametrize(
    ("severity", "word"),
    [("INFO", "info"), ("WARN", "warning"), ("ERROR", "error"), ("CRITICAL", "critical")],
)
def test_pagerduty(severity: str, word: str) -> None:
    made = pagerduty(told(severity=severity, known=GAPS), "key")
    assert (made["routing_key"], made["event_action"], made["dedup_key"]) == ("key", "trigger", "tracehub:a")
    assert made["payload"]["severity"] == word
    assert "incomplete window: 2 missing" in made["payload"]["summary"]
    assert made["payload"]["source"]


def test_what_is_incomplete() -> None:
    assert incomplete(WHOLE) == ""
    flying = {"complete": False, "missing": 0, "lost": 1, "inFlight": 3, "services": []}
    assert incomplete(flying) == "incomplete window: 0 missing, 1 lost, 3 in flight"
    assert (
        incomplete({**flying, "lost": 0, "inFlight": None})
        == "incomplete window: 0 missing, in flight unknown"
    )


@pytest.mark.parametrize(
    "more",
    [
        {"one": entry(message="ä" * 1_000_000)},
        {"one": entry(metadata={"k": "v" * 1_000_000})},
        {"one": entry(message="\x01" * 1_000_000, user_agent="\x01" * 255, source="\x01" * 255)},
        {"known": {**GAPS, "services": [
            {"service": "x" * 100, "missing": 1, "lost": 0, "inFlight": 0} for _ in range(10_000)
        ]}},
        {"filter": {"host": ["h" * 5_000] * 50}, "description": "\x01" * 4_096, "name": "\x01" * 255},
        {"filter": {"host": ["h" * 5_000] * 50}, "one": entry(service_name="\x01" * 100, message="\x01" * 10**6),
         "description": "\x01" * 4_096, "name": "\x01" * 255,
         "known": {**GAPS, "services": [
            {"service": "\x01" * 100, "missing": 1, "lost": 0, "inFlight": 0} for _ in range(10_000)]}},
    ],
)  # fmt: skip
def test_bodies_stay_short(more: dict[str, Any]) -> None:
    document = told(**more)
    assert document["data"]["truncated"] is True
    assert document["data"]["first"]["service_name"] == (more.get("one") or entry())["service_name"]
    assert len(json.dumps(slack(document)["blocks"][1]["text"]["text"])) < 20_000


def test_short_bodies_are_whole() -> None:
    document = told(one=entry(message="x" * 8_000, metadata={"k": 1}))
    assert "truncated" not in document["data"]
    assert document["data"]["first"]["metadata"] == {"k": 1}
