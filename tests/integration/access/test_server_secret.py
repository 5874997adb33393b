from __future__ import annotations

import secrets

from gateway.access.server_secret import server_secrets
from gateway.store.client import Store


async def test_a_secret_is_made_once_for_all_replicas(store: Store) -> None:
    """Whoever comes second finds the first one's."""
    first = await server_secrets(store, given="", random_bytes=secrets.token_bytes)
    second = await server_secrets(store, given="", random_bytes=secrets.token_bytes)

    assert first == second
    assert 64 == len(first[0])


async def test_what_the_operator_gives_signs(store: Store) -> None:
    """The first one signs, the others and the store's own are still believed."""
    [kept] = await server_secrets(store, given="", random_bytes=secrets.token_bytes)
    given = await server_secrets(store, given="new, old,", random_bytes=secrets.token_bytes)

    assert (b"new", b"old", kept) == given


async def test_a_given_secret_leaves_the_store_alone(store: Store) -> None:
    """None is made where one is given from the start."""
    assert (b"mine",) == await server_secrets(store, given="mine", random_bytes=secrets.token_bytes)
