from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.access.records import Account, KeyRecord
from gateway.access.terms import callers_of, check_key, check_team, read_team
from gateway.config.problems import ConfigError
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.domain.limits import Period

TEAM = TeamId("ops")
TABLE = {
    "models": ["gpt-image-*"],
    "timezone": "Asia/Seoul",
    "budgets": [{"usd": Decimal("0.5"), "per": "day"}],
    "limits": {"requests_per_minute": 5, "queue": "5s"},
    "user_budget": {"usd": 5, "per": "month"},
}


def test_settings_survive_the_store() -> None:
    """What is stored is what was checked, and reads back as the same settings."""
    stored = check_team("ops", TABLE)
    read = read_team(TEAM, stored)

    assert stored == check_team("ops", stored)
    assert 500_000 == read.budgets[0].limit_microusd
    assert (5, 5_000) == (read.limits.requests_per_minute, read.limits.queue_ms)
    assert "Asia/Seoul" == str(read.timezone)


def test_mistakes_are_told_all_at_once_with_their_place() -> None:
    """Places begin below the team: the reader knows which team it is."""
    with pytest.raises(ConfigError) as mistakes:
        check_team("ops", {"modles": [], "budgets": [{"usd": 1, "per": "fortnight"}], "keys": []})

    assert {"modles", "budgets[0].per", "keys"} == {
        problem.path for problem in mistakes.value.problems
    }


def test_a_keys_secret_and_end_cannot_be_chosen_by_its_terms() -> None:
    """Only what a key may do is among its terms."""
    with pytest.raises(ConfigError) as mistakes:
        check_key("ops", "ci", {"sha256": "00" * 32, "expires": "2027-01-01"})

    assert {"sha256", "expires"} == {problem.path for problem in mistakes.value.problems}
    assert {"per_call_usd": "0.50"} == check_key("ops", "ci", {"per_call_usd": "0.5"})


def test_callers_have_the_teams_limits_and_their_own() -> None:
    """Each key of an account becomes a caller at the account's version."""
    record = KeyRecord(
        digest=b"\x01" * 32, prefix="p", created_ms=1, terms={"models": ["a*"]}, expires_ms=9
    )
    account = Account(TEAM, "7", TABLE, {"ci": record})
    caller = callers_of(account, read_team(TEAM, check_team("ops", TABLE)))["ci"]

    assert ("ops", "ci", "7", 9) == (
        caller.team.id,
        caller.key.name,
        caller.account_version,
        caller.key.expires_ms,
    )
    assert (("a*",), Period.DAY) == (caller.key.models, caller.team.budgets[0].per)


def test_settings_of_a_later_release_are_passed_over() -> None:
    """A setting this release does not know is no reason to lock a team out; a broken one is."""
    assert 1 == len(read_team(TEAM, {**check_team("ops", TABLE), "colour": "blue"}).budgets)
    with pytest.raises(StoreUnavailable):
        read_team(TEAM, {"models": 7})
