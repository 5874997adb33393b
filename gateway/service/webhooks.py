"""What teams need to trust our callbacks: the secret that they are signed with."""

from __future__ import annotations

from gateway.callbacks.interface import SigningSecrets, WebhookSecrets
from gateway.domain.ids import TeamId
from gateway.service.admin import Admin


class Webhooks:
    """Shows and replaces webhook secrets of teams that exist. Every method raises NoSuchError."""

    def __init__(self, admin: Admin, secrets: WebhookSecrets) -> None:
        self._admin = admin
        self._secrets = secrets

    async def secret(self, team: str) -> SigningSecrets:
        """Return a team's secrets. Raises StoreUnavailable."""
        await self._admin.team(team)
        return await self._secrets.of_team(TeamId(team))

    async def rotate_secret(self, team: str, *, grace_ms: int, who: str) -> SigningSecrets:
        """Give a team another secret; the former one signs too for `grace_ms`.

        Raises StoreUnavailable.
        """
        await self._admin.team(team)
        return await self._secrets.rotate(TeamId(team), grace_ms=grace_ms, who=who)
