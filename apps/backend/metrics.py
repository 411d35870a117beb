"""Prometheus metrics of the backend. docs/operations.md has the table: name, unit, what it means when high."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

ACK_BUCKETS_S = (0.002, 0.004, 0.006, 0.01, 0.02, 0.04, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# name, unit, what it counts, what it means when it is high
TABLE = (
    ("tracehub_received_entries_total", "entries", "taken in by a door", "traffic"),
    ("tracehub_requests_total", "requests", "answers by status", "4xx: clients to look at; 5xx: stores to look at"),
    ("tracehub_ack_seconds", "seconds", "from the request to its answer", "workers or Postgres are slow"),
    ("tracehub_queue_entries", "entries", "waiting or running, by queue", "workers are too few or down"),
    ("tracehub_queue_oldest_seconds", "seconds", "age of the oldest job, by queue", "workers are down or stuck"),
    ("tracehub_dead_letters", "entries", "set aside: conflicts, refused entries", "look at GET /dead-letters"),
    ("tracehub_stored_entries", "entries", "received in the ledger", "traffic"),
    ("tracehub_lost_entries", "entries", "signed off as lost", "producers lose their buffers"),
    ("tracehub_duplicate_entries", "entries", "turned away as duplicates", "producers resend: ACKs come late"),
    ("tracehub_conflict_entries", "entries", "same number, other content", "a producer restarted its numbering"),
    ("tracehub_in_flight_entries", "entries", "in the queue and not yet committed", "as tracehub_queue_entries"),
    ("tracehub_replay_requests", "requests", "by status", "pending: gaps that wait for their producer"),
    ("tracehub_workers", "workers", "that beat", "capacity"),
    ("tracehub_live_clients", "clients", "connected over Socket.IO", "people who look"),
    ("tracehub_live_skipped_entries", "entries", "left out of the live view", "traffic above the live limit"),
)  # fmt: skip
_HELP = {name: f"{what} [{unit}]; high: {high}" for name, unit, what, high in TABLE}


class Tally(Collector):
    """What the doors of this process count, as plain numbers: one event loop, no locks, a fraction of a
    microsecond each."""

    def __init__(self) -> None:
        self.received = 0  # entries
        self.answers: Counter[tuple[str, int]] = Counter()  # by route and status
        self._acks = [0] * (len(ACK_BUCKETS_S) + 1)  # by bucket, the last one without a bound
        self._acks_s = 0.0

    def on_ack(self, seconds: float) -> None:
        """A request was answered after so long."""
        self._acks[bisect_left(ACK_BUCKETS_S, seconds)] += 1
        self._acks_s += seconds

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        name = "tracehub_received_entries_total"
        yield CounterMetricFamily(name, _HELP[name], self.received)
        name = "tracehub_requests_total"
        requests = CounterMetricFamily(name, _HELP[name], labels=["route", "status"])
        for (route, status), count in self.answers.items():
            requests.add_metric([route, str(status)], count)
        yield requests
        name = "tracehub_ack_seconds"
        bounds = [*map(str, map(float, ACK_BUCKETS_S)), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._acks), strict=True))
        yield HistogramMetricFamily(name, _HELP[name], buckets, self._acks_s)


class Metrics:
    """Counters of the process, and gauges of what the asker sees, filled from a snapshot when somebody asks."""

    def __init__(self) -> None:
        self._of_process = CollectorRegistry()
        self.tally = Tally()
        self._of_process.register(self.tally)
        self._of_view = CollectorRegistry()
        self._gauges = {
            name: Gauge(name, _HELP[name], _labels(name), registry=self._of_view) for name, *_ in TABLE[3:]
        }

    def render(self, snapshot: dict[str, Any] | None, *, of_process: bool = True) -> bytes:
        """The text format: what this process counts itself, and (unless a store is away) what is in the snapshot."""
        if snapshot is not None:
            gauges = self._gauges
            for queue in ("logs", "retry"):
                depth = snapshot["queue"][queue]
                gauges["tracehub_queue_entries"].labels(queue).set(depth["depth"])
                gauges["tracehub_queue_oldest_seconds"].labels(queue).set(depth["oldestMs"] / 1000)
            for status, count in snapshot["replays"].items():
                gauges["tracehub_replay_requests"].labels(status).set(count)
            totals = snapshot["totals"]
            for name, value in (
                ("tracehub_dead_letters", snapshot["queue"]["dead"]),
                ("tracehub_stored_entries", totals["stored"]),
                ("tracehub_lost_entries", totals["lost"]),
                ("tracehub_duplicate_entries", totals["duplicates"]),
                ("tracehub_conflict_entries", totals["conflicts"]),
                ("tracehub_in_flight_entries", totals["inFlight"]),
                ("tracehub_workers", sum(w["status"] != "dead" for w in snapshot["workers"])),
                ("tracehub_live_clients", snapshot["live"]["clients"]),
                ("tracehub_live_skipped_entries", snapshot["live"]["skipped"]),
            ):
                gauges[name].set(value)
        text = generate_latest(self._of_process) if of_process else b""
        return text + generate_latest(self._of_view) if snapshot is not None else text


def _labels(name: str) -> list[str]:
    if name.startswith("tracehub_queue_"):
        return ["queue"]
    return ["status"] if name == "tracehub_replay_requests" else []
