"""Who is calling."""

from __future__ import annotations

from typing import Protocol

from gateway.domain.accounts import Caller


class KeyDirectory(Protocol):
    """Knows which team a bearer key belongs to."""

    def find(self, key: str) -> Caller | None:
        """Return who holds this key, or None. Takes as long for a wrong key as for a right one."""
        ...
