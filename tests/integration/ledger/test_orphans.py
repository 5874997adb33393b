from __future__ import annotations

import asyncio

import pytest

from gateway.background import Background, SystemClock
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.limits import Budget, Period
from gateway.ledger.organization import PAGE, Organization, Part
from gateway.ledger.orphans import TOMBSTONE_MS, Orphans
from gateway.ledger.outbox import Outbox, outbox_field, settlement
from gateway.store.client import Store
from gateway.store.keyspace import outbox_key, tombstone_key
from tests.support.organization import TeamSide, lives_ms, purse
from tests.support.valkey import ValkeyProcess

CLOCK = SystemClock()
TEAM, OTHER, TASK = TeamId("design"), TeamId("web"), TaskId("t1")
TOTAL_WINDOW = "ever:0"
#: So that everything is due.
NOW_MS = -60_000


@pytest.fixture
def organization(store: Store) -> Organization:
    """One purse of 1,000 micro-dollars that never resets."""
    return Organization(store, CLOCK, [Budget("ever", 1_000, Period.TOTAL)])


@pytest.fixture
def orphans(store: Store, organization: Organization) -> Orphans:
    """Look after the holds of that organization."""
    return Orphans(store, organization, Outbox(store, organization, CLOCK), CLOCK)


@pytest.fixture
def team_side(store: Store) -> TeamSide:
    """Stand in for the teams."""
    return TeamSide(store)


async def _reserve(
    organization: Organization, task: TaskId = TASK, *, team: TeamId = TEAM, amount: int = 100
) -> None:
    await organization.reserve(task, team, amount, CLOCK.now_ms() + 10_000)


def _settled(hold: int, cost: int) -> str:
    return settlement(hold_microusd=hold, cost_microusd=cost, created_ms=CLOCK.now_ms())


async def _sweep(orphans: Orphans) -> None:
    await orphans.sweep(grace_ms=NOW_MS, settled_for_ms=NOW_MS)


async def test_a_hold_without_a_task_is_freed(
    organization: Organization, orphans: Orphans, team_side: TeamSide, store: Store
) -> None:
    """After its id was buried in the team's slot: an admission that comes later is refused."""
    await _reserve(organization)
    await _sweep(orphans)
    admitted = await team_side.admit(TEAM, TASK)
    await _sweep(orphans)

    assert {TOTAL_WINDOW: (0, 0)} == await purse(store)
    assert not admitted
    remaining = await store.command("PTTL", tombstone_key(TEAM, TASK))
    assert isinstance(remaining, int)
    assert 0 < remaining <= TOMBSTONE_MS


async def test_a_hold_with_a_task_stays(
    organization: Organization, orphans: Orphans, team_side: TeamSide, store: Store
) -> None:
    """It is left alone for a while, and there is no tombstone."""
    await _reserve(organization)
    await team_side.admit(TEAM, TASK)
    await _sweep(orphans)

    assert {TOTAL_WINDOW: (0, 100)} == await purse(store)
    assert not await team_side.buried(TEAM, TASK)
    assert () == await organization.orphans(NOW_MS)
    assert 1 == len(await organization.orphans(-(10**9)))


async def test_a_hold_that_may_still_be_admitted_stays(
    organization: Organization, orphans: Orphans, team_side: TeamSide, store: Store
) -> None:
    """Nothing is looked at before its admission is refused by the clock."""
    await _reserve(organization)
    await orphans.sweep()

    assert {TOTAL_WINDOW: (0, 100)} == await purse(store)
    assert await team_side.admit(TEAM, TASK)


async def test_a_task_that_is_over_is_owed_its_settlement(
    organization: Organization, orphans: Orphans, team_side: TeamSide, store: Store
) -> None:
    """The record has expired before the outbox was told: it is told, not freed."""
    await _reserve(organization)
    await team_side.tell(TEAM, outbox_field(TASK, "0"), _settled(100, 70))
    await team_side.expire(TEAM, TASK)
    await _sweep(orphans)

    assert {TOTAL_WINDOW: (70, 0)} == await purse(store)
    assert {} == await team_side.untold(TEAM)


async def test_another_task_of_a_similar_name_is_no_settlement(
    organization: Organization, orphans: Orphans, team_side: TeamSide, store: Store
) -> None:
    """Ids are compared whole."""
    await _reserve(organization)
    await team_side.tell(TEAM, outbox_field(TaskId("t11"), "0"), "unreadable")
    await _sweep(orphans)

    assert {TOTAL_WINDOW: (0, 0)} == await purse(store)


async def test_what_shares_left_over_is_freed_with_the_record(
    organization: Organization, orphans: Orphans, team_side: TeamSide, store: Store
) -> None:
    """A hold that its parts did not add up to does not stay for ever."""
    await _reserve(organization)
    await team_side.admit(TEAM, TASK)
    await organization.settle(Part(TEAM, TASK, "0", 60, 50, CLOCK.now_ms(), CLOCK.now_ms()))
    await team_side.expire(TEAM, TASK)
    await _sweep(orphans)

    assert {TOTAL_WINDOW: (50, 0)} == await purse(store)


async def test_a_hold_is_remembered_while_its_team_has_something_to_tell(
    organization: Organization, orphans: Orphans, team_side: TeamSide, store: Store
) -> None:
    """Told but not taken away: it may be told again at any time, and must find its mark."""
    for team, task in ((TEAM, TASK), (OTHER, TaskId("t2"))):
        await _reserve(organization, task, team=team)
        await organization.settle(Part(team, task, "0", 100, 1, CLOCK.now_ms(), CLOCK.now_ms()))
    await team_side.tell(TEAM, outbox_field(TASK, "0"), _settled(100, 1))
    await _sweep(orphans)
    kept = [await lives_ms(store, TASK), await lives_ms(store, TaskId("t2"))]
    await store.command("DEL", outbox_key(TEAM))
    await _sweep(orphans)

    assert -1 == kept[0]
    assert 0 < kept[1]
    assert 0 < await lives_ms(store, TASK)


async def test_many_are_looked_after_in_one_sweep(
    organization: Organization, orphans: Orphans, store: Store
) -> None:
    """More than one step holds, of both kinds."""
    for number in range(PAGE + 2):
        await _reserve(organization, TaskId(f"open{number}"), amount=1)
        over = TaskId(f"over{number}")
        await organization.settle(Part(TEAM, over, "0", 0, 1, CLOCK.now_ms(), CLOCK.now_ms()))
    await _sweep(orphans)

    assert {TOTAL_WINDOW: (PAGE + 2, 0)} == await purse(store)
    assert (0, 0) == (
        await store.command("ZCARD", "{org}:holds"),
        await store.command("ZCARD", "{org}:settled"),
    )


async def test_the_loop_sweeps_and_outlives_a_store_that_does_not_answer(
    valkey_process: ValkeyProcess, store: Store
) -> None:
    """Now and then, on its own."""
    url = valkey_process.url
    async with Store(url, timeout_ms=100) as hasty, Background(grace_s=1) as background:
        purse_of_all = Organization(hasty, CLOCK, [Budget("ever", 1_000, Period.TOTAL)])
        await purse_of_all.reserve(TASK, TEAM, 100, CLOCK.now_ms() + 10_000)
        await store.command("ZADD", "{org}:holds", "XX", 1, f"{TEAM}:{TASK}")
        outbox = Outbox(hasty, purse_of_all, CLOCK)
        orphans = Orphans(hasty, purse_of_all, outbox, CLOCK, every_s=0.02)
        valkey_process.stop()
        try:
            background.loop("orphans", orphans.run)
            await asyncio.sleep(0.3)
        finally:
            valkey_process.cont()
        async with asyncio.timeout(60):
            while (await purse(store))[TOTAL_WINDOW] != (0, 0):  # noqa: ASYNC110 - a store has no event
                await asyncio.sleep(0.02)

        assert () == background.dead_loops
