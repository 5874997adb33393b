from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.interface import AccountMovedError, Amendment
from gateway.access.redis_accounts import RedisAccounts
from gateway.domain.accounts import NO_VERSION
from gateway.domain.ids import TeamId
from gateway.store.client import Store

TEAM = TeamId("ops")
CHANGE = Amendment(
    team=TEAM,
    version=NO_VERSION,
    field="team",
    text='{"schema":1,"models":["*"]}',
    who="cli:me",
    what="set_team",
    key="",
    before="",
    after='{"models":["*"]}',
)


async def test_a_team_without_an_account_is_empty(store: Store) -> None:
    """No version, no settings, no keys."""
    accounts = RedisAccounts(store)
    account = await accounts.load(TEAM)

    assert (NO_VERSION, NO_VERSION) == (account.version, await accounts.version(TEAM))
    assert (None, {}) == (account.table, account.keys)
    assert frozenset() == await accounts.teams()


async def test_a_change_bumps_the_version_and_is_written_down(store: Store) -> None:
    """Account and audit change together; versions only grow."""
    accounts = RedisAccounts(store)
    await accounts.enter(TEAM)
    first = await accounts.amend(CHANGE)
    second = await accounts.amend(replace(CHANGE, version=first))
    account = await accounts.load(TEAM)
    [line, _] = await accounts.audit(TEAM, count=5)

    assert int(second) > int(first)
    assert (second, {"models": ["*"]}) == (account.version, account.table)
    assert ("cli:me", "set_team", None, {"models": ["*"]}) == (
        line.who,
        line.what,
        line.before,
        line.after,
    )
    assert frozenset({TEAM}) == await accounts.teams()


async def test_a_change_from_an_old_version_is_refused(store: Store) -> None:
    """Of two changes made from one version the second changes nothing."""
    accounts = RedisAccounts(store)
    version = await accounts.amend(CHANGE)
    with pytest.raises(AccountMovedError):
        await accounts.amend(CHANGE)

    assert version == await accounts.version(TEAM)
    assert 1 == len(await accounts.audit(TEAM, count=5))
