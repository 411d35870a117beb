"""Signatures, retries, answers, addresses: what deliveries go by (log-service.md §7)."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from tracehub.protocol.addresses import is_public
from tracehub.protocol.webhooks import Attempt, Verdict, judge, make_secret, of_answer, retry_after, signed

NOW = 1_795_000_000_000
FAILED = Attempt("no", 500)


def test_signatures_are_those_of_standard_webhooks() -> None:
    """The vector of the specification's own libraries."""
    headers = signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
        b'{"test": 2432232314}',
    )  # fmt: skip
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_plain_secret_is_the_key() -> None:
    wanted = base64.b64encode(hmac.new(b"plain", b"i.5.b", hashlib.sha256).digest()).decode()
    assert signed("plain", "i", 5, b"b")["webhook-signature"] == f"v1,{wanted}"
    assert "webhook-signature" not in signed(None, "i", 5, b"b")
    assert make_secret(b"\x00" * 24) == "whsec_" + "A" * 32


def test_retries_wait_longer_and_longer() -> None:
    waits = [judge(FAILED, attempt, NOW, 0.5).next_ms for attempt in range(1, 7)]
    assert [wait and (wait - NOW) // 1000 for wait in waits] == [5, 30, 120, 600, 1_800, 7_200]
    assert judge(FAILED, 7, NOW, 0.5) == Verdict("failed")
    assert judge(FAILED, 1, NOW, 0.0).next_ms == NOW + 4_000
    assert judge(FAILED, 1, NOW, 0.999999).next_ms == NOW + 5_999


def test_what_ends_a_delivery() -> None:
    assert judge(Attempt(), 1, NOW, 0.5) == Verdict("sent")
    assert judge(Attempt("gone", 410), 1, NOW, 0.5) == Verdict("failed")
    assert judge(Attempt("not_configured", final=True), 1, NOW, 0.5) == Verdict("failed")


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0), ("7", 7_000), ("3600", 3_600_000), (" 5 ", 5_000), ("soon", None), ("-5", None), (None, None),
        ("Wed, 18 Nov 2026 11:06:50 GMT", 10_000), ("Wed, 18 Nov 2026 11:06:30 GMT", 0), ("²", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(text: str | None, ms: int | None) -> None:
    assert retry_after(text, NOW) == ms


def test_retry_after_is_obeyed_up_to_an_hour() -> None:
    assert judge(Attempt("no", 429, 3_600_000), 1, NOW, 0.5).next_ms == NOW + 3_600_000
    assert judge(Attempt("no", 429, 3_600_001), 1, NOW, 0.5).next_ms == NOW + 5_000


@pytest.mark.parametrize(
    ("status", "fine"), [(200, True), (204, True), (202, True), (302, False), (400, False)]
)
def test_only_2xx_is_delivered(status: int, fine: bool) -> None:
    assert (of_answer(status, {}, NOW).error is None) is fine


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1", "2002:7f00:1::", "2001:0:1::1", "::ffff:224.0.0.1", "not an address", "",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(address: str) -> None:
    assert not is_public(address)
