from __future__ import annotations

import secrets as randomness

import pytest

from gateway.access.server_secret import ServerSigner, server_secrets
from gateway.domain.errors import StoreUnavailable
from gateway.domain.tokens import Purpose
from gateway.store.client import Store
from tests.support.sockets import closed_port


async def told(store: Store, given: str = "") -> tuple[bytes, ...]:
    """Return the secrets of one replica."""
    return await server_secrets(store, given=given, random_bytes=randomness.token_bytes)


async def test_all_replicas_have_the_one_that_is_made(store: Store) -> None:
    """Without a given one it is made once, whoever comes first."""
    assert await told(store) == await told(store)
    assert len((await told(store))[0]) == 64


async def test_given_ones_come_first_and_the_kept_one_stays_good(store: Store) -> None:
    """Several while they rotate; what was signed before one was given is still believed."""
    assert await told(store, "new, old,") == (b"new", b"old")

    [kept] = await told(store)

    assert await told(store, "new") == (b"new", kept)


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
