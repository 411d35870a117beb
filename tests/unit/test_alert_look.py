"""When an alert is triggered: the count decides, a cool-down and the past hold it back (pipeline/alerts.py)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.making import NOW_MS
from tracehub.pipeline.alerts import NewDelivery, Outlook, look
from tracehub.pipeline.completeness import Hole
from tracehub.protocol.alerts import Alert, AlertRule
from tracehub.protocol.errors import QueryTimeout, Transient
from tracehub.protocol.messages import Mark, StreamKey
from tracehub.storage.redis.keys import ZERO_TENANT

MINUTE = 60_000


@dataclass
class Ledger:
    """Matching entries as (ts, created_at), and one alert."""

    entries: list[tuple[int, int]] = field(default_factory=list)
    alert: Alert = field(
        default_factory=lambda: Alert("i", ZERO_TENANT, AlertRule("n", {}, 3, window_mins=1, channels=(
            {"type": "slack"}, {"type": "email", "disabled": True},
        )), 0, 0)
    )  # fmt: skip
    delivered: list[NewDelivery] = field(default_factory=list)
    holes_there: list[Hole] = field(default_factory=list)
    too_slow: bool = False
    window: tuple[int | None, int | None] = (None, None)

    def _within(self, start_ms: int) -> list[tuple[int, int]]:
        return [e for e in self.entries if min(e) >= start_ms]

    async def reaches(self, _: Alert, start_ms: int, least: int) -> bool:
        return len(self._within(start_ms)) >= least

    async def matched_since(self, _: Alert, start_ms: int, since_ms: int) -> bool:
        return any(created > since_ms for _, created in self._within(start_ms))

    async def sighted(self, _: Alert, start_ms: int) -> tuple[int, Any, Any]:
        if self.too_slow:
            raise QueryTimeout
        return len(self._within(start_ms)), None, None

    async def claim(self, _: Alert, now_ms: int, deliveries: Sequence[NewDelivery]) -> bool:
        if self.alert.cools_ms(now_ms):
            return False
        self.alert = replace(self.alert, last_triggered_ms=now_ms)
        self.delivered += deliveries
        return True

    async def holes(self, _: str | None, __: Collection[str] | None, ___: dict[StreamKey, Any]) -> list[Hole]:
        return self.holes_there

    async def look(self, now_ms: int, marks: Any = None) -> bool:
        async def none() -> Mapping[str, Mark]:
            return {}

        return await look(Outlook(self, self, marks or none, "http://h"), self.alert, now_ms)

    def said(self) -> Any:
        return json.loads(self.delivered[-1].body)["data"]


def at(*seconds: int) -> list[tuple[int, int]]:
    return [(NOW_MS + s * 1000, NOW_MS + s * 1000) for s in seconds]


async def test_threshold_window_and_cool_down() -> None:
    ledger = Ledger(at(0, 1))
    assert not await ledger.look(NOW_MS + 1_000)
    ledger.entries += at(2)
    assert await ledger.look(NOW_MS + 2_000)
    assert [d.channel["type"] for d in ledger.delivered] == ["slack"]  # what is off stays off
    assert ledger.said()["count"] == 3
    ledger.entries += at(30)
    assert not await ledger.look(NOW_MS + 30_000)
    assert not await ledger.look(NOW_MS + 61_999)
    assert not await ledger.look(NOW_MS + 62_000)  # one match is left in the window
    ledger.entries += at(62, 63)
    assert await ledger.look(NOW_MS + 63_000)


async def test_an_alert_that_is_off_is_not_looked_at() -> None:
    ledger = Ledger(at(0, 0, 0))
    ledger.alert = replace(ledger.alert, rule=replace(ledger.alert.rule, enabled=False))
    assert not await ledger.look(NOW_MS)


async def test_a_burst_that_stays_in_the_window_is_told_once() -> None:
    ledger = Ledger(at(0, 1, 2))
    ledger.alert = replace(ledger.alert, rule=replace(ledger.alert.rule, window_mins=60))
    assert await ledger.look(NOW_MS + 3_000)
    assert not await ledger.look(NOW_MS + 2 * MINUTE)
    ledger.entries += at(121)
    assert await ledger.look(NOW_MS + 122_000)
    assert ledger.said()["count"] == 4


async def test_the_message_says_what_is_missing() -> None:
    ledger = Ledger(at(0, 1, 2))
    ledger.holes_there = [
        Hole("svc", 4, False, NOW_MS, NOW_MS + 1_000), Hole("svc", 9, True, 0, NOW_MS - 2 * MINUTE)
    ]  # fmt: skip
    assert await ledger.look(NOW_MS + 2_000)
    known = ledger.said()["completeness"]
    assert (known["complete"], known["missing"], known["lost"]) == (
        False,
        4,
        0,
    )  # the other is of another time


async def test_without_the_queue_it_is_not_known_to_be_whole() -> None:
    async def away() -> Mapping[str, Mark]:
        raise Transient

    ledger = Ledger(at(0, 1, 2))
    assert await ledger.look(NOW_MS + 2_000, away)
    known = ledger.said()["completeness"]
    assert (known["complete"], known["inFlight"]) == (False, None)


async def test_too_many_to_count_is_enough() -> None:
    ledger = Ledger(at(0, 1, 2), too_slow=True)
    assert await ledger.look(NOW_MS + 2_000)
    assert (ledger.said()["count"], ledger.said()["first"]) == (3, None)
