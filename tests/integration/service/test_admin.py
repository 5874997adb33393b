from __future__ import annotations

import os

import pytest

from gateway.access.directory import AccountKeys
from gateway.access.file_keys import FileKeys
from gateway.access.redis_accounts import RedisAccounts
from gateway.config.problems import ConfigError
from gateway.config.team_settings import TeamSettings
from gateway.domain.clock import Clock
from gateway.service.admin import Admin, AdminRefusedError
from gateway.store.client import Store
from tests.support.clock import FixedClock

FILE_TEAMS = {"design": TeamSettings.model_validate({"keys": [{"name": "ci", "env": "CI"}]})}
TABLE = {"models": ["gpt-image-*"], "budgets": [{"usd": 5, "per": "day"}]}


def admin_on(store: Store, clock: Clock | None = None) -> Admin:
    """Build the service of one process."""
    return Admin(RedisAccounts(store), FILE_TEAMS, clock or FixedClock(), os.urandom)


def directory_on(store: Store, clock: Clock) -> AccountKeys:
    """Build the directory of one replica."""
    return AccountKeys(FileKeys({}), FILE_TEAMS, RedisAccounts(store), clock)


async def test_a_key_made_here_works_on_every_replica_at_once(store: Store) -> None:
    """Its caller has the team's limits and the key's own, and the account's version."""
    clock = FixedClock()
    one, two = directory_on(store, clock), directory_on(store, clock)
    assert await one.find("gw-ops-" + "A" * 43) is None
    admin = admin_on(store, clock)
    await admin.set_team("ops", TABLE, who="cli:me")
    made = await admin.create_key(
        "ops", "ci", {"per_call_usd": "0.5", "models": ["gpt-image-1*"]}, expires_ms=None, who="me"
    )
    callers = [await replica.find(made.secret) for replica in (one, two)]

    assert callers[0] == callers[1]
    caller = callers[0]
    assert caller is not None
    assert ("ops", "ci", 500_000) == (caller.team.id, caller.key.name, caller.key.per_call_microusd)
    assert (True, False) == (caller.may_use("gpt-image-1.5"), caller.may_use("gpt-image-2"))
    assert 5_000_000 == caller.team.budgets[0].limit_microusd
    assert caller.account_version == await RedisAccounts(store).version(caller.team.id)


async def test_a_revoked_key_is_noticed_by_age_and_by_version(store: Store) -> None:
    """A replica that cached the key forgets it within half a second; its version tells before."""
    clock = FixedClock()
    replica, admin = directory_on(store, clock), admin_on(store, clock)
    made = await admin.create_key("design", "web", {}, expires_ms=None, who="me")
    before = await replica.find(made.secret)
    await admin.revoke_key("design", "web", who="me")
    cached = await replica.find(made.secret)
    asked_anew = await replica.refresh(made.secret)
    clock.advance(0.6)

    assert before is not None
    assert cached is not None
    assert cached.account_version != await RedisAccounts(store).version(cached.team.id)
    assert asked_anew is None
    assert await replica.find(made.secret) is None


async def test_a_rotated_key_opens_by_both_secrets_for_the_grace(store: Store) -> None:
    """The old secret stays good as long as was said, and not longer."""
    clock = FixedClock()
    replica, admin = directory_on(store, clock), admin_on(store, clock)
    old = await admin.create_key("design", "web", {}, expires_ms=None, who="me")
    new = await admin.rotate_key("design", "web", grace_ms=60_000, who="me")

    assert old.secret != new.secret
    for secret in (old.secret, new.secret):
        assert await replica.find(secret) is not None
    clock.advance(61)
    assert await replica.find(old.secret) is None
    assert await replica.find(new.secret) is not None


async def test_an_expired_key_opens_nothing(store: Store) -> None:
    """A key's own end is kept to the millisecond."""
    clock = FixedClock()
    replica, admin = directory_on(store, clock), admin_on(store, clock)
    made = await admin.create_key("design", "web", {}, expires_ms=clock.now_ms() + 1_000, who="me")

    assert await replica.find(made.secret) is not None
    clock.advance(1.0)
    assert await replica.find(made.secret) is None


async def test_every_change_is_in_the_audit_without_secrets(store: Store) -> None:
    """Who did what, before and after; no line and no record holds a key or its digest's text."""
    admin = admin_on(store)
    made = await admin.create_key("design", "web", {}, expires_ms=None, who="cli:ann")
    again = await admin.rotate_key("design", "web", grace_ms=0, who="cli:bob")
    await admin.revoke_key("design", "web", who="cli:eve")
    lines = await admin.audit("design", count=10)
    everything = str(lines) + str(await store.command("HGETALL", "{t:design}:account"))

    assert [
        ("cli:eve", "revoke_key", "active", "revoked"),
        ("cli:bob", "rotate_key", "active", "active"),
        ("cli:ann", "create_key", None, "active"),
    ] == [
        (
            line.who,
            line.what,
            None if line.before is None else line.before["state"],
            None if line.after is None else line.after["state"],
        )
        for line in lines
    ]
    assert "digest" not in str(lines)
    for secret in (made.secret, again.secret):
        assert secret not in everything
        assert secret[-39:] not in everything


async def test_what_cannot_be_done_is_refused_with_a_reason(store: Store) -> None:
    """Teams and keys of the file are the file's; names are taken once; strangers are unknown."""
    admin = admin_on(store)
    await admin.create_key("design", "web", {}, expires_ms=None, who="me")
    with pytest.raises(AdminRefusedError, match="settings file"):
        await admin.set_team("design", TABLE, who="me")
    for name in ("web", "ci"):
        with pytest.raises(AdminRefusedError, match="already"):
            await admin.create_key("design", name, {}, expires_ms=None, who="me")
    with pytest.raises(AdminRefusedError, match="settings file"):
        await admin.revoke_key("design", "ci", who="me")
    with pytest.raises(AdminRefusedError, match="no key 'nope'"):
        await admin.revoke_key("design", "nope", who="me")
    with pytest.raises(AdminRefusedError, match="no team 'nowhere'"):
        await admin.create_key("nowhere", "web", {}, expires_ms=None, who="me")
    await admin.revoke_key("design", "web", who="me")
    with pytest.raises(AdminRefusedError, match="is revoked"):
        await admin.rotate_key("design", "web", grace_ms=0, who="me")
    with pytest.raises(ConfigError) as mistakes:
        await admin.set_team("ops", {"modles": ["*"], "budgets": [{"usd": -1}]}, who="me")

    assert ["modles", "budgets[0].usd", "budgets[0].per"] == sorted(
        (problem.path for problem in mistakes.value.problems), key=len
    ) or {"modles", "budgets[0].usd", "budgets[0].per"} == {
        problem.path for problem in mistakes.value.problems
    }
    assert ["design"] == await admin.teams()


async def test_teams_are_listed_and_shown_as_a_file_would_have_them(store: Store) -> None:
    """What was set comes back, of the store's teams and of the file's."""
    admin = admin_on(store)
    await admin.set_team("ops", TABLE, who="me")
    await admin.set_team("ops", {"models": ["*"]}, who="me")
    keys = await admin.keys("ops")

    assert ["design", "ops"] == await admin.teams()
    assert {} == keys
    assert "budgets" not in await admin.team("ops")
    assert {} == await admin.team("design")
