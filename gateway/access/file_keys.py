"""Keys from the configuration file, kept as SHA-256 digests only."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from gateway.access.bearer import digest_of
from gateway.domain.accounts import Caller


class FileKeys:
    """Implements `KeyDirectory` over a table from SHA-256 digest to caller."""

    def __init__(self, callers: Mapping[bytes, Caller]) -> None:
        self._callers = dict(callers)

    async def find(self, key: str) -> Caller | None:
        """Return who holds this key, or None."""
        return self.holder(digest_of(key))

    async def refresh(self, key: str) -> Caller | None:
        """Return the same: a file that was read does not change."""
        return await self.find(key)

    def holder(self, presented: bytes) -> Caller | None:
        """Return whose key has this digest, or None.

        Every known digest is compared, each in constant time, so that the time it takes tells
        nothing about how close a guess was or where in the file a key stands.
        """
        found = None
        for digest, caller in self._callers.items():
            if hmac.compare_digest(digest, presented):
                found = caller
        return found
