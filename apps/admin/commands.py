"""`tracehub services | replay | dead-letters`: what they ask, and how the answer looks."""

from __future__ import annotations

from apps.admin.client import Client
from apps.admin.show import show

SERVICE_COLUMNS = (
    *("service", "epoch", "state", "ackTill", "highestSeen", "missingCount", "lostCount", "inFlight"),
    *("eps", "errorRate", "lagMs", "oldestGapMs", "lastSeen"),
)
REPLAY_COLUMNS = (
    *("id", "service", "epoch", "from", "to", "from_seq", "to_seq", "status", "requestedBy", "requested_by"),
    *("attempts", "found", "inserted", "latencyMs", "latency_ms", "createdAt", "created_at", "error"),
)
DEAD_LETTER_COLUMNS = ("id", "service", "epoch", "seq", "reason", "error", "createdAt", "created_at")


def services(client: Client, *, as_json: bool) -> None:
    """Every service with its acknowledgement, its gaps and its lag."""
    show(
        client.get("services"), SERVICE_COLUMNS, as_json=as_json, nothing="No service has sent anything yet."
    )


def replays(client: Client, *, status: str | None, service: str | None, limit: int, as_json: bool) -> None:
    """Replay requests, newest first."""
    answer = client.get("replay", status=status, service=service, limit=limit)
    show(answer, REPLAY_COLUMNS, as_json=as_json, nothing="No replay requests.")


def request_replay(client: Client, service: str, first: int, last: int, *, epoch: int | None) -> str:
    """Ask for a range again; the id of the request."""
    body: dict[str, object] = {"service": service, "from": first, "to": last}
    if epoch is not None:
        body["epoch"] = epoch
    return str(client.post("replay", body=body).get("id", ""))


def abandon_replay(client: Client, request_id: str) -> None:
    """Sign the rest of a request off as lost."""
    client.post("replay", request_id, "abandon")


def dead_letters(client: Client, *, service: str | None, reason: str | None, as_json: bool) -> None:
    """Entries that could not be stored as they are."""
    answer = client.get("dead-letters", service=service, reason=reason)
    show(answer, DEAD_LETTER_COLUMNS, as_json=as_json, nothing="No dead letters.")


def retry_dead_letter(client: Client, letter_id: str) -> None:
    """Try once more to store it."""
    client.post("dead-letters", letter_id, "retry")


def delete_dead_letter(client: Client, letter_id: str) -> None:
    """Throw it away; its number stays signed off as lost."""
    client.delete("dead-letters", letter_id)
