"""The signer that all replicas on one store have in common."""

from __future__ import annotations

from collections.abc import Callable

from gateway.access.server_secret import server_secrets
from gateway.domain.tokens import Signer
from gateway.store.client import Store


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
