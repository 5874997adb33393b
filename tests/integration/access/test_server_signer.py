from __future__ import annotations

import secrets as randomness

import pytest

from gateway.access.server_signer import ServerSigner
from gateway.domain.errors import StoreUnavailable
from gateway.domain.tokens import Purpose
from gateway.store.client import Store
from tests.support.sockets import closed_port


async def test_a_signer_of_each_replica_believes_the_others(store: Store) -> None:
    """What one signs, another can read; the store is asked once."""
    one = ServerSigner(store, given="", random_bytes=randomness.token_bytes)
    other = ServerSigner(store, given="", random_bytes=randomness.token_bytes)
    token = (await one.signer()).token(Purpose.ASSET, "x")

    assert "x" == (await other.signer()).payload(Purpose.ASSET, token)

    await store.command("FLUSHALL")

    assert await one.signer() is await one.signer()
    assert "x" == (await one.signer()).payload(Purpose.ASSET, token)


async def test_a_gateway_may_start_before_its_store(store: Store) -> None:
    """The secrets are read when they are needed, and again when that failed."""
    async with Store(f"redis://127.0.0.1:{closed_port()}/0", timeout_ms=200) as gone:
        signing = ServerSigner(gone, given="mine", random_bytes=randomness.token_bytes)

        with pytest.raises(StoreUnavailable):
            await signing.signer()
        with pytest.raises(StoreUnavailable):
            await signing.signer()
