from __future__ import annotations

import hashlib
import os

from gateway.access.bearer import make_key
from gateway.access.directory import SECOND_LOOKS, AccountKeys
from gateway.access.file_keys import FileKeys
from gateway.access.redis_accounts import RedisAccounts
from gateway.config.team_settings import TeamSettings
from gateway.domain.accounts import ApiKey, Caller
from gateway.domain.ids import TeamId
from gateway.service.admin import Admin
from gateway.store.client import Store
from tests.support.clock import FixedClock
from tests.support.factories import KEY, a_team

TEAMS = {"design": TeamSettings()}


async def calls(store: Store) -> int:
    """Return how many reads of accounts the servers have seen."""
    return sum(
        stats[name]["calls"]  # type: ignore[index, call-overload]
        for stats in await store.command_everywhere("INFO", "commandstats")
        for name in ("cmdstat_hget", "cmdstat_hgetall", "cmdstat_smembers")
        if name in stats  # type: ignore[operator]
    )


async def test_keys_of_the_file_never_wait_for_the_store() -> None:
    """A key of the file is found while the store cannot be reached, and expires by itself."""
    clock = FixedClock()
    caller = Caller(a_team(), ApiKey("ci", expires_ms=clock.now_ms() + 1_000))
    async with Store("unix:///nonexistent.sock", timeout_ms=100) as nowhere:
        keys = AccountKeys(
            FileKeys({hashlib.sha256(KEY.encode()).digest(): caller}),
            TEAMS,
            RedisAccounts(nowhere),
            clock,
        )
        found = await keys.find(KEY)
        clock.advance(1.0)
        late = await keys.find(KEY)

    assert found == caller
    assert late is None


async def test_guessing_keys_makes_few_reads(store: Store) -> None:
    """A hundred invented keys of known and unknown teams cost a bounded number of reads."""
    clock = FixedClock()
    await Admin(RedisAccounts(store), TEAMS, clock, os.urandom).create_key(
        "design", "web", {}, expires_ms=None, who="me"
    )
    keys = AccountKeys(FileKeys({}), TEAMS, RedisAccounts(store), clock)
    before = await calls(store)
    for number in range(100):
        for team in ("design", f"team{number}"):
            guess = make_key(TeamId(team), number.to_bytes(32, "big"))
            assert await keys.find(guess) is None
    reads = await calls(store) - before

    # Each second look reads a version and perhaps an account; the first looks are cached.
    assert reads <= 2 * SECOND_LOOKS + 6
