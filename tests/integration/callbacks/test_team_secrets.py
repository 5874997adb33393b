from __future__ import annotations

import asyncio
import secrets as randomness

import pytest

from gateway.access.redis_accounts import RedisAccounts
from gateway.callbacks.interface import SigningSecrets
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.domain.ids import TeamId
from gateway.store.client import Store
from gateway.store.keyspace import callback_secret_key
from tests.support.clock import FixedClock

TEAM = TeamId("design")


@pytest.fixture
def clock() -> FixedClock:
    """Stand still at noon."""
    return FixedClock()


@pytest.fixture
async def kept(store: Store, clock: FixedClock) -> TeamSecrets:
    """Keep secrets in the session's server."""
    return TeamSecrets(store, clock, randomness.token_bytes)


async def test_the_first_look_makes_one_for_all(kept: TeamSecrets, store: Store) -> None:
    """Whoever asks first, all get the same; another team has another one; none ever expires."""
    first = await asyncio.gather(*(kept.of_team(TEAM) for _ in range(8)))

    assert 1 == len(set(first))
    assert first[0].current.startswith("whsec_")
    assert "" == first[0].former
    assert first[0] != await kept.of_team(TeamId("other"))
    assert -1 == await store.command("PTTL", callback_secret_key(TEAM))


async def test_a_rotation_signs_with_both_for_its_grace(
    kept: TeamSecrets, clock: FixedClock
) -> None:
    """The former secret goes on signing until the grace ends, and not a moment longer."""
    before = (await kept.of_team(TEAM)).current
    rotated = await kept.rotate(TEAM, grace_ms=60_000, who="cli:ann")
    clock.advance(59.999)
    during = await kept.of_team(TEAM)
    clock.advance(0.001)
    after = await kept.of_team(TEAM)

    assert before != rotated.current
    assert SigningSecrets(rotated.current, before) == rotated == during
    assert SigningSecrets(rotated.current) == after


async def test_a_rotation_is_in_the_audit(kept: TeamSecrets, store: Store) -> None:
    """Who replaced it is written down, the secret is not; reading it writes nothing."""
    await kept.of_team(TEAM)
    rotated = await kept.rotate(TEAM, grace_ms=0, who="cli:ann")
    (entry,) = await RedisAccounts(store).audit(TEAM, count=9)

    assert ("cli:ann", "rotate_webhook_secret") == (entry.who, entry.what)
    assert rotated.current not in str(entry)
    assert SigningSecrets(rotated.current) == rotated


async def test_rotating_none_makes_the_first(kept: TeamSecrets, store: Store) -> None:
    """A team that was never called back has no former secret; who made it is written down."""
    made = await kept.rotate(TEAM, grace_ms=60_000, who="cli:ann")

    assert SigningSecrets(made.current) == made == await kept.of_team(TEAM)
    (entry,) = await RedisAccounts(store).audit(TEAM, count=9)
    assert ("cli:ann", "create_webhook_secret") == (entry.who, entry.what)


async def test_a_repeated_rotation_counts_once(store: Store, clock: FixedClock) -> None:
    """The script, sent again because its answer was lost, replaces nothing again."""
    await TeamSecrets(store, clock, randomness.token_bytes).of_team(TEAM)
    rotating = TeamSecrets(store, clock, lambda count: b"r" * count)
    first = await rotating.rotate(TEAM, grace_ms=60_000, who="cli:ann")

    assert first == await rotating.rotate(TEAM, grace_ms=60_000, who="cli:ann")
    assert 1 == len(await RedisAccounts(store).audit(TEAM, count=9))
