"""The secret that signs links and callback tokens: all replicas on one store have the same."""

from __future__ import annotations

from collections.abc import Callable

from gateway.domain.tokens import Signer
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


class ServerSigner:
    """Signs with the server's secrets; they are read once, when they are first needed.

    A gateway may start before its store does.
    """

    def __init__(self, store: Store, *, given: str, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._given = given
        self._random_bytes = random_bytes
        self._signer: Signer | None = None

    async def signer(self) -> Signer:
        """Return the signer. Raises StoreUnavailable as long as the secrets could not be read."""
        if self._signer is None:
            secrets = await server_secrets(
                self._store, given=self._given, random_bytes=self._random_bytes
            )
            self._signer = Signer(secrets)
        return self._signer
