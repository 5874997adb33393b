from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from gateway.background import Background, SystemClock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.limits import Budget, Period
from gateway.ledger.entries import Counters, Entry, Verb
from gateway.ledger.organization import APPLY_WITHIN_MS, Organization
from gateway.ledger.outbox import FLUSH_EVERY_S, PAGE, Outbox, outbox_field, raised, settlement
from gateway.ledger.redis_books import Correction, RedisBooks
from gateway.store.client import Store
from gateway.store.keyspace import outbox_key
from tests.support.clock import FixedClock
from tests.support.organization import TeamSide, purse
from tests.support.valkey import ValkeyProcess

CLOCK = SystemClock()
TEAM, OTHER, TASK = TeamId("design"), TeamId("web"), TaskId("t1")
TOTAL_WINDOW = "ever:0"


@pytest.fixture
def organization(store: Store) -> Organization:
    """One purse of 1,000 micro-dollars that never resets."""
    return Organization(store, CLOCK, [Budget("ever", 1_000, Period.TOTAL)])


@pytest.fixture
def outbox(store: Store, organization: Organization) -> Outbox:
    """Tell that organization."""
    return Outbox(store, organization, CLOCK)


@pytest.fixture
def team_side(store: Store) -> TeamSide:
    """Write what a team has to tell."""
    return TeamSide(store)


def _settled(hold: int, cost: int) -> str:
    return settlement(hold_microusd=hold, cost_microusd=cost, created_ms=CLOCK.now_ms())


async def _reserve(organization: Organization, amount: int) -> None:
    await organization.reserve(TASK, TEAM, amount, CLOCK.now_ms() + 10_000)


async def test_a_flush_tells_all_and_takes_it_away(
    organization: Organization, outbox: Outbox, team_side: TeamSide, store: Store
) -> None:
    """Raises and settlements reach the purse, and the outbox is empty after."""
    await _reserve(organization, 100)
    await team_side.tell(TEAM, outbox_field(TASK, "0"), _settled(40, 30))
    await team_side.tell(TEAM, outbox_field(TASK, "1"), raised(500))
    await team_side.tell(TEAM, outbox_field(TASK, "adjust:7"), _settled(0, -5))
    await outbox.flush(TEAM)
    await outbox.flush(TEAM)

    assert {TOTAL_WINDOW: (25, 560)} == await purse(store)
    assert {} == await team_side.untold(TEAM)


async def test_a_correction_reaches_the_purse(
    organization: Organization, outbox: Outbox, team_side: TeamSide, store: Store
) -> None:
    """What an operator corrects in a team's books counts in the organization's, too, once."""
    await _reserve(organization, 100)
    await team_side.tell(TEAM, outbox_field(TASK, "0"), _settled(100, 100))
    await outbox.flush(TEAM)
    charge = Entry(
        id="1-1",
        verb=Verb.POSSIBLE_CHARGE,
        op="t1:end",
        windows=(),
        change=Counters(spent_microusd=100),
        created_ms=CLOCK.now_ms(),
        task=TASK,
    )
    for _ in range(2):
        await RedisBooks(store).adjust(TEAM, charge, Correction("a1", -40, "not billed", "kim"))
        await outbox.flush(TEAM)

    assert {TOTAL_WINDOW: (60, 0)} == await purse(store)
    assert {} == await team_side.untold(TEAM)


async def test_a_settlement_takes_the_place_of_a_raise(
    organization: Organization, outbox: Outbox, team_side: TeamSide, store: Store
) -> None:
    """A raise that was not told yet need not be told any more."""
    await _reserve(organization, 100)
    await team_side.tell(TEAM, outbox_field(TASK, "0"), raised(500))
    await team_side.tell(TEAM, outbox_field(TASK, "0"), _settled(100, 600))
    await outbox.flush(TEAM)

    assert {TOTAL_WINDOW: (600, 0)} == await purse(store)


async def test_what_changes_while_it_is_told_is_told_again(
    organization: Organization, outbox: Outbox, team_side: TeamSide, store: Store
) -> None:
    """A settlement that comes between reading a raise and taking it away is not lost."""
    await _reserve(organization, 100)
    field, first = outbox_field(TASK, "0"), raised(500)
    await team_side.tell(TEAM, field, first)
    await organization.raise_hold(TASK, "0", 500)
    await team_side.tell(TEAM, field, _settled(100, 600))
    await store.run(outbox._acknowledge, [outbox_key(TEAM)], [field, first])
    kept = await team_side.untold(TEAM)
    await outbox.flush(TEAM)

    assert [field] == list(kept)
    assert {TOTAL_WINDOW: (600, 0)} == await purse(store)


async def test_a_crash_before_it_is_taken_away(
    organization: Organization, outbox: Outbox, team_side: TeamSide, store: Store
) -> None:
    """Whoever reads the entry again changes nothing."""
    await _reserve(organization, 100)
    field, entry = outbox_field(TASK, "0"), _settled(100, 30)
    await team_side.tell(TEAM, field, entry)
    await outbox.flush(TEAM)
    await team_side.tell(TEAM, field, entry)
    await outbox.flush(TEAM)

    assert {TOTAL_WINDOW: (30, 0)} == await purse(store)
    assert {} == await team_side.untold(TEAM)


async def test_many_gateways_tell_at_once(
    organization: Organization, team_side: TeamSide, store: Store
) -> None:
    """Each of them reads everything; everything happens once."""
    await _reserve(organization, 400)
    for part in range(40):
        await team_side.tell(TEAM, outbox_field(TASK, str(part)), _settled(10, 7))
    outboxes = [Outbox(store, organization, CLOCK) for _ in range(5)]
    await asyncio.gather(*(outbox.flush(TEAM) for outbox in outboxes))

    assert {TOTAL_WINDOW: (280, 0)} == await purse(store)
    assert {} == await team_side.untold(TEAM)


async def test_more_than_a_page(outbox: Outbox, team_side: TeamSide, store: Store) -> None:
    """After a long outage everything is told in one flush, each once."""
    for number in range(5 * PAGE + 1):
        await team_side.tell(TEAM, outbox_field(TaskId(f"t{number}"), "0"), _settled(0, 1))
    await outbox.flush(TEAM)

    assert {} == await team_side.untold(TEAM)
    assert b"1001" == await store.command("HGET", "{org}:spent:total", "organization|")


@pytest.mark.parametrize("entry", ["no json", "[]", '{"hold":1}', '{"v":2,"lend":3}'])
async def test_an_entry_that_cannot_be_read_stays(
    outbox: Outbox, team_side: TeamSide, store: Store, entry: str
) -> None:
    """A newer gateway will read it; the others are told, and a line says which task it is."""
    await team_side.tell(TEAM, outbox_field(TASK, "0"), entry)
    await team_side.tell(TEAM, outbox_field(TASK, "1"), _settled(0, 7))
    with capture_logs() as lines:
        await outbox.flush(TEAM)

    assert {outbox_field(TASK, "0"): entry} == await team_side.untold(TEAM)
    assert [("outbox_unreadable", "t1")] == [(line["action"], line["task"]) for line in lines]
    assert b"7" == await store.command("HGET", "{org}:spent:total", "organization|")


async def test_an_entry_that_is_told_too_slowly_stays(
    organization: Organization, team_side: TeamSide, store: Store
) -> None:
    """It is told again from a fresh reading, as it may have been told and forgotten."""
    await _reserve(organization, 100)
    await team_side.tell(TEAM, outbox_field(TASK, "0"), _settled(100, 30))
    slow = Outbox(store, organization, FixedClock(now_ms=CLOCK.now_ms() - APPLY_WITHIN_MS - 10_000))
    with capture_logs() as lines:
        await slow.flush(TEAM)

    assert ["outbox_late"] == [line["action"] for line in lines]
    assert {TOTAL_WINDOW: (0, 100)} == await purse(store)
    assert 1 == len(await team_side.untold(TEAM))


async def test_noted_teams_are_flushed(outbox: Outbox, team_side: TeamSide) -> None:
    """Those that were noted, each once, and no others."""
    for team in (TEAM, OTHER):
        await team_side.tell(team, outbox_field(TASK, "0"), _settled(0, 7))
    outbox.note(TEAM)
    outbox.note(TEAM)
    await outbox.flush_noted()
    left = [len(await team_side.untold(team)) for team in (TEAM, OTHER)]
    await team_side.tell(TEAM, outbox_field(TASK, "1"), _settled(0, 7))
    await outbox.flush_noted()

    assert [0, 1] == left
    assert 1 == len(await team_side.untold(TEAM))


async def test_a_team_stays_noted_while_the_store_does_not_answer(
    valkey_process: ValkeyProcess, team_side: TeamSide, store: Store
) -> None:
    """It is flushed as soon as the store is back."""
    await team_side.tell(TEAM, outbox_field(TASK, "0"), _settled(0, 7))
    async with Store(valkey_process.url, timeout_ms=200) as hasty:
        outbox = Outbox(hasty, Organization(hasty, CLOCK, []), CLOCK)
        outbox.note(TEAM)
        valkey_process.stop()
        try:
            with pytest.raises(StoreUnavailable):
                await outbox.flush_noted()
        finally:
            valkey_process.cont()
        await outbox.flush_noted()

    assert {} == await team_side.untold(TEAM)


async def test_the_loop_tells_noted_teams_and_all_the_others(
    outbox: Outbox, team_side: TeamSide
) -> None:
    """Teams nobody noted, as after a crash, are looked through; a silent store ends nothing."""
    asked = 0

    async def teams() -> Sequence[TeamId]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailable
        return [OTHER]

    for team in (TEAM, OTHER):
        await team_side.tell(team, outbox_field(TASK, "0"), _settled(0, 7))
    outbox.note(TEAM)
    async with Background(grace_s=1) as background, asyncio.timeout(60):
        background.loop("outbox", lambda: outbox.run(teams))
        while any([await team_side.untold(team) for team in (TEAM, OTHER)]):  # noqa: ASYNC110 - a store has no event
            await asyncio.sleep(0.02)
        # Long enough for the next look at noted teams, and far too short for one at all of them.
        await asyncio.sleep(3 * FLUSH_EVERY_S)

        assert ((), 2) == (background.dead_loops, asked)
