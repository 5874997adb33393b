from __future__ import annotations

import os

from structlog.testing import capture_logs

from gateway.access.interface import TeamKeys
from gateway.access.redis_accounts import RedisAccounts
from gateway.access.teams import AllTeams
from gateway.config.team_settings import TeamSettings
from gateway.domain.ids import TeamId
from gateway.service.admin import Admin
from gateway.store.client import Store
from gateway.store.keyspace import account_key
from tests.support.clock import FixedClock

FILE_TEAMS = {
    "design": TeamSettings.model_validate(
        {
            "budgets": [{"usd": 5, "per": "day"}],
            "keys": [{"name": "ci", "env": "CI", "budgets": [{"usd": 1, "per": "day"}]}],
        }
    )
}
LOUD = {"budgets": [{"usd": 7, "per": "week", "alert_at": ["0.8", "0.5"]}]}


def _admin(store: Store) -> Admin:
    return Admin(RedisAccounts(store), FILE_TEAMS, FixedClock(), os.urandom)


def _told(entries: tuple[TeamKeys, ...]) -> dict[str, tuple[list[str], list[str]]]:
    """Return the teams with the names of their budgets and of their keys."""
    return {
        entry.team.id: (
            [budget.name for budget in entry.team.budgets],
            [key.name for key in entry.keys],
        )
        for entry in entries
    }


async def test_teams_of_the_file(store: Store) -> None:
    """With their keys, without any account."""
    [design] = await AllTeams(FILE_TEAMS, RedisAccounts(store)).read()

    assert {"design": (["day"], ["ci"])} == _told((design,))
    assert 1_000_000 == design.keys[0].budgets[0].limit_microusd


async def test_teams_and_keys_made_at_run_time(store: Store) -> None:
    """They are noticed by a list that was read before, with what their budgets announce."""
    teams, admin = AllTeams(FILE_TEAMS, RedisAccounts(store)), _admin(store)
    await teams.read()
    await admin.set_team("ops", LOUD, who="me")
    await admin.create_key("ops", "web", LOUD, expires_ms=None, who="me")
    await admin.create_key("design", "app", {}, expires_ms=None, who="me")
    await admin.create_key("design", "old", {}, expires_ms=None, who="me")
    await admin.revoke_key("design", "old", who="me")
    entries = await teams.read()

    assert {"design": (["day"], ["ci", "app"]), "ops": (["week"], ["web"])} == _told(entries)
    assert [(50, 80)] * 2 == [
        budget.alert_percents for budget in (*entries[1].team.budgets, *entries[1].keys[0].budgets)
    ]


async def test_changes_are_noticed(store: Store) -> None:
    """An account is read again when its version has moved, and only then."""
    teams, admin = AllTeams(FILE_TEAMS, RedisAccounts(store)), _admin(store)
    await admin.set_team("ops", LOUD, who="me")
    before = await teams.read()
    await store.command("HSET", account_key(TeamId("ops")), "team", '{"schema": 1}')
    unmoved = await teams.read()
    await admin.set_team("ops", {"budgets": [{"usd": 7, "per": "day"}]}, who="me")

    assert before == unmoved
    assert (["day"], []) == _told(await teams.read())["ops"]


async def test_a_team_whose_making_broke_off_is_none(store: Store) -> None:
    """It is in the index and has no account."""
    await RedisAccounts(store).enter(TeamId("half"))

    assert ["design"] == list(_told(await AllTeams(FILE_TEAMS, RedisAccounts(store)).read()))


async def test_an_account_of_a_later_release_hides_no_other(store: Store) -> None:
    """It is left out and told; a team of the file stays with what the file says."""
    for name in ("design", "ops"):
        account = account_key(TeamId(name))
        await store.command("HSET", account, "version", "1", "team", '{"schema": 99}')
        await RedisAccounts(store).enter(TeamId(name))
    await _admin(store).set_team("web", LOUD, who="me")
    teams = AllTeams(FILE_TEAMS, RedisAccounts(store))
    with capture_logs() as logs:
        entries = await teams.read()
        await teams.read()

    assert {"design": (["day"], ["ci"]), "web": (["week"], [])} == _told(entries)
    assert ["design", "ops"] == [line["team"] for line in logs]
