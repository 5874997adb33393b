from __future__ import annotations

import secrets as randomness

import pytest

from gateway.access.redis_accounts import RedisAccounts
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.config.team_settings import TeamSettings
from gateway.domain.ids import TeamId
from gateway.service.admin import Admin, NoSuchError
from gateway.service.webhooks import Webhooks
from gateway.store.client import Store
from gateway.store.keyspace import callback_secret_key
from tests.support.clock import FixedClock


@pytest.fixture
async def webhooks(store: Store) -> Webhooks:
    """Know one team, of the file."""
    clock = FixedClock()
    teams = {"design": TeamSettings.model_validate({})}
    admin = Admin(RedisAccounts(store), teams, clock, randomness.token_bytes)
    return Webhooks(admin, TeamSecrets(store, clock, randomness.token_bytes))


async def test_a_team_has_a_secret_and_may_have_another(webhooks: Webhooks) -> None:
    """Shown as often as one likes; rotated, the former one stays for the grace."""
    first = await webhooks.secret("design")
    assert first == await webhooks.secret("design")
    rotated = await webhooks.rotate_secret("design", grace_ms=1000, who="cli:me")

    assert first.current == rotated.former
    assert rotated == await webhooks.secret("design")


async def test_nobody_has_none(webhooks: Webhooks, store: Store) -> None:
    """Nothing is made for a team that does not exist."""
    for asked in (
        webhooks.secret("nowhere"),
        webhooks.rotate_secret("nowhere", grace_ms=0, who="cli:me"),
    ):
        with pytest.raises(NoSuchError):
            await asked

    assert 0 == await store.command("EXISTS", callback_secret_key(TeamId("nowhere")))
