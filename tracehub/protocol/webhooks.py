"""Deliveries as Standard Webhooks has them: signatures, when to try again, what an answer means. Pure; the time and
the dice are arguments.

The signed text is `id.timestamp.body`; the id stays the same over retries, the timestamp is the attempt's. A secret
`whsec_…` is base64 of the key; any other text is the key itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from tracehub.protocol.times import unix_ms

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 24
STEPS_MS: Final = (5_000, 30_000, 120_000, 600_000, 1_800_000, 7_200_000)
SPREAD: Final = 0.2
RETRY_AFTER_MAX_MS: Final = 3_600_000
TIMEOUT_S: Final = 10.0
LEASE_MS: Final = 30_000
GONE: Final = 410

# An attempt must be over before another worker may take its delivery.
assert TIMEOUT_S * 1000 * 2 < LEASE_MS


def make_secret(random: bytes) -> str:
    """A secret of SECRET_BYTES random bytes."""
    return PREFIX + base64.b64encode(random).decode()


def key_of(secret: str) -> bytes:
    """The key of a secret. Raises ValueError for a `whsec_` that is no base64."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def signed(secret: str | None, webhook_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of a webhook; without a secret it is not signed."""
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp_s)}
    if secret is not None:
        text = f"{webhook_id}.{timestamp_s}.".encode() + body
        digest = hmac.digest(key_of(secret), text, hashlib.sha256)
        headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt. `error` None: it was delivered. `final`: another attempt would end alike."""

    error: str | None = None
    http_status: int | None = None
    retry_after_ms: int | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery: `status`, and when it is tried again (Unix ms; None: never)."""

    status: str
    next_ms: int | None = None


def judge(attempt: Attempt, attempts: int, now_ms: int, dice: float) -> Verdict:
    """After the `attempts`th attempt; `dice` is in [0, 1)."""
    if attempt.error is None:
        return Verdict("sent")
    if attempt.final or attempt.http_status == GONE or attempts > len(STEPS_MS):
        return Verdict("failed")
    if attempt.retry_after_ms is not None and attempt.retry_after_ms <= RETRY_AFTER_MAX_MS:
        return Verdict("pending", now_ms + attempt.retry_after_ms)
    step = STEPS_MS[attempts - 1]
    return Verdict("pending", now_ms + int(step * (1 - SPREAD + 2 * SPREAD * dice)))


def of_answer(status: int, headers: Mapping[str, str], now_ms: int) -> Attempt:
    """What an HTTP answer means: only 2xx is a success; nobody follows a redirect."""
    if 200 <= status < 300:
        return Attempt(http_status=status)
    error = (
        "the receiver wants no more of them (410)" if status == GONE else f"the receiver answered {status}"
    )
    if 300 <= status < 400:
        error = f"the receiver answered with a redirect ({status})"
    return Attempt(error, status, retry_after(headers.get("Retry-After"), now_ms))


def retry_after(text: str | None, now_ms: int) -> int | None:
    """Milliseconds, of seconds or of a date; None for what cannot be read."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9]) * 1000
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, unix_ms(moment) - now_ms)
