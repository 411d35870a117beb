"""What clients show to be let in, read in the contract's order."""

from __future__ import annotations

import base64
import re

import pytest

from tracehub.protocol.credentials import (
    EVERYWHERE,
    RANDOM_BYTES,
    Credential,
    Kind,
    Missing,
    digest,
    is_key,
    make_key,
    read_credential,
)

ALL = Kind.BEARER | Kind.PAIR | Kind.TOKEN | Kind.BASIC
BEARER = (b"authorization", b"Bearer bearer-key")
BASIC = (b"authorization", b"Basic " + base64.b64encode(b"anybody:basic-key"))
ID, TOKEN = (b"x-api-key", b"shop"), (b"x-api-token", b"pair-key")
QUERY = b"a=1&token=query-key"


@pytest.mark.parametrize("random", [bytes(RANDOM_BYTES), b"\xff" * RANDOM_BYTES, bytes(range(RANDOM_BYTES))])
def test_made_keys_have_the_shape(random: bytes) -> None:
    key = make_key(random)
    assert re.fullmatch(r"th_[0-9A-Za-z]{40}", key)
    assert is_key(key)
    assert make_key(random) == key


def test_every_random_bit_that_fits_is_used() -> None:
    keys = {make_key((1 << bit).to_bytes(RANDOM_BYTES, "big")) for bit in range(238)}
    assert len(keys) == 238


@pytest.mark.parametrize(
    "text", ["", "th_", "th_" + "a" * 39, "th_" + "a" * 41, "tk_" + "a" * 40, "th_" + "-" * 40]
)
def test_other_shapes_are_no_keys(text: str) -> None:
    assert not is_key(text)


def test_digest_is_sha256() -> None:
    assert digest("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert len(digest("\ud800 \xe9")) == 32


@pytest.mark.parametrize(
    ("headers", "query", "found"),
    [
        ([TOKEN, ID, BEARER], QUERY, Credential(Kind.BEARER, "bearer-key")),
        ([TOKEN, ID], QUERY, Credential(Kind.PAIR, "pair-key", "shop")),
        ([TOKEN, ID, BASIC], QUERY, Credential(Kind.PAIR, "pair-key", "shop")),
        ([BASIC], QUERY, Credential(Kind.TOKEN, "query-key")),
        ([BASIC], b"", Credential(Kind.BASIC, "basic-key")),
        ([ID], QUERY, Credential(Kind.TOKEN, "query-key")),
        ([ID], b"", Missing.HALF_A_PAIR),
        ([TOKEN], b"token=", Missing.HALF_A_PAIR),
        ([], b"", Missing.NOTHING),
        ([(b"authorization", b"Bearer")], b"", Missing.NOTHING),
        ([(b"authorization", b"Bearer   ")], b"", Missing.NOTHING),
        ([(b"authorization", b"Bearer "), ID, TOKEN], b"", Credential(Kind.PAIR, "pair-key", "shop")),
        ([(b"authorization", b"bEaReR   spaced  ")], b"", Credential(Kind.BEARER, "spaced")),
        ([(b"authorization", b"Digest x")], b"", Missing.NOTHING),
        ([(b"authorization", b"Basic !!!")], b"", Missing.NOTHING),
        ([(b"x-api-key", b"  "), TOKEN], b"", Missing.HALF_A_PAIR),
        ([(b"authorization", "Bearer schlüssel".encode())], b"", Credential(Kind.BEARER, "schlüssel")),
        ([], b"token=a%2Bb", Credential(Kind.TOKEN, "a+b")),
    ],
)
def test_first_credential_present_decides(
    headers: list[tuple[bytes, bytes]], query: bytes, found: Credential | Missing
) -> None:
    assert read_credential(headers, query, ALL) == found


def test_a_door_reads_its_own_kinds_only() -> None:
    assert read_credential([BASIC], QUERY, EVERYWHERE) is Missing.NOTHING
    assert read_credential([ID, TOKEN], b"", Kind.BEARER) is Missing.NOTHING
    assert read_credential([BEARER], b"", Kind.PAIR) is Missing.NOTHING
    assert read_credential([BASIC], QUERY, Kind.BASIC) == Credential(Kind.BASIC, "basic-key")
