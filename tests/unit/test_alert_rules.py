"""Alerts as documents: what may be written, merged and shown (log-service.md §7)."""

from __future__ import annotations

from typing import Any

import pytest

from tracehub.protocol.alerts import Alert, AlertRule, merge, read_rule
from tracehub.protocol.errors import InvalidField


def random(count: int) -> bytes:
    return bytes(range(count))


def rule(**more: Any) -> dict[str, Any]:
    return {"name": "n", "filter": {}, "threshold": 1, **more}


def kept(read: AlertRule) -> Alert:
    return Alert("i", "t", read, 0, 0)


def test_defaults() -> None:
    shown = kept(read_rule(rule(), random)).shown(secrets=True)
    assert shown == {
        "id": "i", "tenant_id": "t", "name": "n", "description": "", "enabled": True, "filter": {},
        "threshold": 1, "window_mins": 5, "severity": "ERROR", "cooldown_mins": 1, "channels": [],
        "last_triggered": None, "created_at": "1970-01-01T00:00:00.000Z",
        "updated_at": "1970-01-01T00:00:00.000Z",
    }  # fmt: skip


def test_a_given_false_is_kept() -> None:
    assert read_rule(rule(enabled=False), random).enabled is False


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None), ("name", ""), ("name", "x" * 256), ("name", 5),
        ("filter", None), ("filter", []), ("filter", "x"),
        ("threshold", None), ("threshold", 0), ("threshold", -1), ("threshold", 1.5), ("threshold", True),
        ("threshold", "3"),
        ("window_mins", 0), ("window_mins", 1441), ("window_mins", "5"),
        ("cooldown_mins", 0), ("cooldown_mins", 1441),
        ("severity", "FATAL"), ("severity", 5),
        ("enabled", "yes"), ("enabled", 1),
        ("description", 5), ("description", "x" * 4097),
        ("channels", {}), ("channels", "slack"), ("channels", ["slack"] * 21),
        ("treshold", 5),
    ],
)  # fmt: skip
def test_bad_values_are_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidField) as bad:
        read_rule(rule(**{field: value}), random)
    assert bad.value.field == field


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"levle": "ERROR"}, "filter.levle"),
        ({"level": "loud"}, "filter.level"),
        ({"level": ["ERROR", "loud"]}, "filter.level"),
        ({"min_level": "loud"}, "filter.min_level"),
        ({"start_time": "2026-01-01T00:00:00Z"}, "filter.start_time"),
        ({"end": "2026-01-01T00:00:00Z"}, "filter.end"),
        ({"page": 1}, "filter.page"),
        ({"cursor": ""}, "filter.cursor"),
        ({"service_name": 5}, "filter.service_name"),
        ({"search": "x" * 257}, "filter.search"),
        ({"metadata": []}, "filter.metadata"),
        ({"metadata": {str(n): 1 for n in range(11)}}, "filter.metadata"),
        ({"host": ["h"] * 51}, "filter.host"),
    ],
)
def test_bad_filters_are_named(given: Any, field: str) -> None:
    if given == {"metadata": []}:
        given = {"metadata": "x"}
    with pytest.raises(InvalidField) as bad:
        read_rule(rule(filter=given), random)
    assert bad.value.field == field


@pytest.mark.parametrize(
    "given",
    [{}, {"level": "fatal"}, {"level": ["NOTICE", "error"], "service": ""}, {"metadata": {"a.b": None}}],
)
def test_filters_are_kept_as_sent(given: Any) -> None:
    assert read_rule(rule(filter=given), random).filter == given


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("sms", "channels[0]"), (5, "channels[0]"), ({}, "channels[0].type"),
        ({"type": "sms"}, "channels[0].type"),
        ({"type": "webhook"}, "channels[0].url"),
        ({"type": "webhook", "url": "ftp://h/x"}, "channels[0].url"),
        ({"type": "webhook", "url": "http://"}, "channels[0].url"),
        ({"type": "webhook", "url": "http://h/\nx"}, "channels[0].url"),
        ({"type": "webhook", "url": "http://u:p@h/"}, "channels[0].url"),
        ({"type": "webhook", "url": "http://h:99999/"}, "channels[0].url"),
        ({"type": "webhook", "url": "http://h/", "secret": "whsec_?"}, "channels[0].secret"),
        ({"type": "webhook", "url": "http://h/", "secret": ""}, "channels[0].secret"),
        ({"type": "webhook", "url": "http://h/", "secret": "***"}, "channels[0].secret"),
        ({"type": "webhook", "url": "http://h/", "sekret": "x"}, "channels[0].sekret"),
        ({"type": "slack"}, "channels[0].webhook"), ({"type": "slack", "webhook": 5}, "channels[0].webhook"),
        ({"type": "email"}, "channels[0].recipients"),
        ({"type": "email", "recipients": []}, "channels[0].recipients"),
        ({"type": "email", "recipients": ["a@b", "no"]}, "channels[0].recipients[1]"),
        ({"type": "email", "recipients": ["a@b\r\nBcc: c@d"]}, "channels[0].recipients[0]"),
        ({"type": "email", "recipients": ["a@b, c@d"]}, "channels[0].recipients[0]"),
        ({"type": "pagerduty"}, "channels[0].integration_key"),
        ({"type": "slack", "webhook": "http://h", "disabled": "no"}, "channels[0].disabled"),
    ],
)  # fmt: skip
def test_bad_channels_are_named(given: Any, field: str) -> None:
    with pytest.raises(InvalidField) as bad:
        read_rule(rule(channels=[given]), random)
    assert bad.value.field == field


CHANNELS = [
    {"type": "webhook", "url": "https://h.example/x", "secret": "plain"},
    {"type": "slack", "webhook": "https://h.example/secret"},
    {"type": "email", "recipients": ["a@b.example"]},
    {"type": "pagerduty", "integration_key": "k"},
    {"type": "pagerduty", "routing_key": "k"},
    "slack",
    {"type": "email", "disabled": True},
]


def test_channels_are_shown_as_sent() -> None:
    shown = kept(read_rule(rule(channels=CHANNELS), random)).shown(secrets=True)
    assert shown["channels"] == CHANNELS
    assert (
        read_rule(rule(channels=shown["channels"]), random).channels
        == read_rule(rule(channels=CHANNELS), random).channels
    )


def test_secrets_are_masked() -> None:
    shown = kept(read_rule(rule(channels=CHANNELS), random)).shown(secrets=False)
    assert [
        channel for channel in shown["channels"] if "secret" in repr(channel).replace("'secret'", "")
    ] == []
    assert shown["channels"][0] == {"type": "webhook", "url": "https://h.example/x", "secret": "***"}
    assert shown["channels"][1] == {"type": "slack", "webhook": "***"}
    assert shown["channels"][3] == {"type": "pagerduty", "integration_key": "***"}


def test_a_webhook_without_secret_gets_one() -> None:
    (channel,) = read_rule(rule(channels=[{"type": "webhook", "url": "https://h.example"}]), random).channels
    assert channel["secret"] == "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"


def test_merging_changes_what_was_sent_only() -> None:
    before = read_rule(rule(channels=["slack", "email"], description="d", enabled=False), random)
    after = merge(
        before, {"threshold": 7, "channels": ["slack"], "id": "other", "tenant_id": "x", "name": None}, random
    )
    assert after == read_rule(rule(channels=["slack"], description="d", enabled=False, threshold=7), random)


def test_masked_secrets_that_come_back_are_kept() -> None:
    before = read_rule(rule(channels=CHANNELS[:3]), random)
    masked = kept(before).shown(secrets=False)["channels"]
    assert merge(before, {"channels": masked}, random) == before
    with pytest.raises(InvalidField):
        merge(before, {"channels": [{**masked[0], "url": "https://evil.example"}]}, random)


def test_a_bound_key_widens_no_filter() -> None:
    read = read_rule(rule(filter={"service": ["mine", "other"]}), random)
    assert Alert("i", "t", read, 0, 0, app_key="mine").wanted().exact == (("service", ("mine",)),)
    read = read_rule(rule(filter={"service": "other"}), random)
    assert Alert("i", "t", read, 0, 0, app_key="mine").wanted().exact == (("service", ()),)
