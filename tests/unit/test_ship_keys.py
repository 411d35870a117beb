"""The producers' keys stand in the SDK and in the server: two spellings, one contract."""

from __future__ import annotations

import pytest

from tracehub.storage.redis import keys
from tracehub_sdk.keys import Keys

TENANT = "0193a0de-0000-7000-8000-000000000001"


@pytest.mark.parametrize("service", ["shop", "a/b:c.d-e_f"])
def test_keys_are_spelled_alike(service: str) -> None:
    """For the default tenant and for others."""
    for sdk, tenant in ((Keys.of(service), keys.ZERO_TENANT), (Keys.of(service, TENANT), TENANT)):
        assert sdk.buffer == keys.producer_buffer(tenant, service)
        assert sdk.meta == keys.producer_meta(tenant, service)
