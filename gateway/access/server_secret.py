"""The secret that signs links and callback tokens: all replicas on one store have the same."""

from __future__ import annotations

from collections.abc import Callable

from gateway.store.client import Store
from gateway.store.keyspace import server_secret_key

SECRET_BYTES = 32


async def server_secrets(
    store: Store, *, given: str, random_bytes: Callable[[int], bytes]
) -> tuple[bytes, ...]:
    """Return the secrets that count, the one to sign with first.

    `given` is the operator's, several separated by commas while they rotate; without one it is
    made once and kept in the store, where it stays valid beside a given one. Raises
    StoreUnavailable.
    """
    mine = [part.strip().encode() for part in given.split(",") if part.strip()]
    if not mine:
        await store.command("SET", server_secret_key(), random_bytes(SECRET_BYTES).hex(), "NX")
    kept = await store.command("GET", server_secret_key())
    return (*mine, *([kept] if isinstance(kept, bytes) else []))
