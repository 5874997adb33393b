"""What a team's callbacks are signed with: one secret, and the former one for a while."""

from __future__ import annotations

from collections.abc import Callable

from gateway.callbacks.interface import SigningSecrets
from gateway.callbacks.sign import SECRET_BYTES, make_secret
from gateway.domain.clock import Clock
from gateway.domain.ids import ID_BYTES, TeamId
from gateway.store.client import Store
from gateway.store.keyspace import audit_key, callback_secret_key
from gateway.store.replies import texts_of
from gateway.store.scripts import load_script


class TeamSecrets:
    """Implements `WebhookSecrets` in each team's slot."""

    def __init__(self, store: Store, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._secret = load_script("callbacks/lua/secret.lua")

    async def of_team(self, team: TeamId) -> SigningSecrets:
        """Return a team's secrets; the first call for a team makes them."""
        return await self._run(team, rotation="", grace_ms=0, who="")

    async def rotate(self, team: TeamId, *, grace_ms: int, who: str) -> SigningSecrets:
        """Give a team another secret; callbacks are signed with both for `grace_ms`.

        A team that had none gets its first. The team's audit says so.
        """
        rotation = self._random_bytes(ID_BYTES).hex()
        return await self._run(team, rotation=rotation, grace_ms=grace_ms, who=who)

    async def _run(self, team: TeamId, *, rotation: str, grace_ms: int, who: str) -> SigningSecrets:
        fresh = make_secret(self._random_bytes(SECRET_BYTES))
        reply = await self._store.run(
            self._secret,
            [callback_secret_key(team), audit_key(team)],
            [fresh, rotation, self._clock.now_ms(), grace_ms, who],
        )
        current, former = texts_of(reply)
        return SigningSecrets(current, former)
