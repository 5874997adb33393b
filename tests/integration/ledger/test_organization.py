from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest

from gateway.background import SystemClock
from gateway.domain.errors import BudgetExceeded, StoreUnavailable
from gateway.domain.ids import ORGANIZATION, TaskId, TeamId
from gateway.domain.limits import Budget, Period
from gateway.ledger.audit import verify
from gateway.ledger.organization import (
    APPLY_WITHIN_MS,
    REMEMBER_MS,
    Kept,
    LateError,
    Organization,
    Part,
    Untold,
)
from gateway.ledger.redis_books import RedisBooks
from gateway.store.client import Store
from gateway.store.scripts import Script
from tests.support.organization import lives_ms, purse

CLOCK = SystemClock()
TEAM, TASK = TeamId("design"), TaskId("t1")
TOTAL = Budget("ever", 1_000, Period.TOTAL)
TOTAL_WINDOW = "ever:0"
LONG_AGO_MS = -(10**9)
#: What was spent is summed by quarters of an hour.
BUCKET_MS = 900_000


@pytest.fixture
def organization(store: Store) -> Organization:
    """One purse of 1,000 micro-dollars that never resets."""
    return Organization(store, CLOCK, [TOTAL])


def _admit_by_ms() -> int:
    return CLOCK.now_ms() + 10_000


def _part(
    part: str = "0",
    *,
    hold: int = 0,
    cost: int = 0,
    task: TaskId = TASK,
    created_ms: int | None = None,
    read_ms: int | None = None,
) -> Part:
    now_ms = CLOCK.now_ms()
    created_ms, read_ms = (now_ms if at is None else at for at in (created_ms, read_ms))
    return Part(TEAM, task, part, hold, cost, created_ms, read_ms)


async def _reserve(
    organization: Organization, amount: int = 100, *, task: TaskId = TASK
) -> tuple[int, int]:
    [state] = await organization.reserve(task, TEAM, amount, _admit_by_ms())
    return state.spent_microusd, state.held_microusd


async def _findings(store: Store) -> list[str]:
    return [str(finding) for finding in (await verify(RedisBooks(store), ORGANIZATION)).findings]


async def test_a_call_is_held_in_every_budget(store: Store) -> None:
    """The budgets are told as they are after it, and a repetition is answered alike."""
    month = Budget("month", 500, Period.MONTH)
    organization = Organization(store, CLOCK, [TOTAL, month])
    first = await organization.reserve(TASK, TEAM, 100, _admit_by_ms())
    again = await organization.reserve(TASK, TEAM, 100, _admit_by_ms())

    assert [("organization", "", "ever", 900), ("organization", "", "month", 400)] == [
        (state.scope, state.owner, state.name, state.remaining_microusd) for state in first
    ]
    assert first == again
    assert first == await organization.balances()


async def test_a_call_fits_into_all_budgets_or_into_none(store: Store) -> None:
    """The one that refuses is named, and nothing is held in the others."""
    organization = Organization(store, CLOCK, [TOTAL, Budget("day", 99, Period.DAY)])
    with pytest.raises(BudgetExceeded) as refusal:
        await organization.reserve(TASK, TEAM, 100, _admit_by_ms())

    assert ("organization", "day", 99) == (
        refusal.value.budget.scope,
        refusal.value.budget.name,
        refusal.value.budget.limit_microusd,
    )
    assert "the organization's 'day' budget of $0.000099" in refusal.value.message
    assert {0} == {held for _, held in (await purse(store)).values()}
    assert () == await organization.orphans(LONG_AGO_MS)


async def test_exactly_as_many_fit_as_fit(organization: Organization) -> None:
    """Of many calls at once, none is admitted beyond the limit."""
    calls = [_reserve(organization, 70, task=TaskId(f"t{number}")) for number in range(40)]
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert 14 == sum(not isinstance(answer, BudgetExceeded) for answer in answers)
    assert 980 == (await organization.balances())[0].held_microusd


async def test_without_budgets_nothing_is_held(store: Store) -> None:
    """And nothing is asked: the store need not even be there."""
    organization = Organization(store, CLOCK, [])

    assert () == await organization.reserve(TASK, TEAM, 100, _admit_by_ms())
    assert [] == await store.command("KEYS", "{org}*")


async def test_a_reserve_that_comes_late_is_refused(
    organization: Organization, store: Store
) -> None:
    """By the store's clock: its caller has given up long ago."""
    with pytest.raises(StoreUnavailable):
        await organization.reserve(TASK, TEAM, 100, CLOCK.now_ms() - 1_000)

    assert {} == await purse(store)


async def test_a_task_settles_part_by_part(organization: Organization, store: Store) -> None:
    """Each gives back its share and books what it cost, also above it; once."""
    await _reserve(organization, 100)
    seen = []
    for part in (_part("0", hold=40, cost=30), _part("1", hold=60, cost=75)):
        for _ in range(2):
            await organization.settle(part)
            seen.append((await purse(store))[TOTAL_WINDOW])

    assert [(30, 60), (30, 60), (105, 0), (105, 0)] == seen
    assert [] == await _findings(store)


async def test_a_raise_is_held_whatever_the_limit_says(
    organization: Organization, store: Store
) -> None:
    """The highest amount counts in any order, and the part gives it back with its share."""
    await _reserve(organization, 900)
    for extra in (200, 300, 300, 250):
        await organization.raise_hold(TASK, "0", extra)
    raised = await purse(store)
    await organization.settle(_part("0", hold=400, cost=600))
    await organization.raise_hold(TASK, "0", 5_000)

    assert {TOTAL_WINDOW: (0, 1_200)} == raised
    assert {TOTAL_WINDOW: (600, 500)} == await purse(store)
    assert [] == await _findings(store)


async def test_a_part_never_gives_back_more_than_its_task_holds(
    organization: Organization, store: Store
) -> None:
    """Shares that do not add up take nothing from other tasks."""
    await _reserve(organization, 100)
    await _reserve(organization, 50, task=TaskId("t2"))
    await organization.settle(_part("0", hold=130, cost=10))
    await organization.settle(_part("1", hold=20, cost=10))

    assert {TOTAL_WINDOW: (20, 50)} == await purse(store)
    assert [] == await _findings(store)


async def test_a_task_that_holds_nothing_is_booked(
    organization: Organization, store: Store
) -> None:
    """Admitted before there was a budget, or its hold was lost: the truth counts, once."""
    await _reserve(organization, 100, task=TaskId("t2"))
    for _ in range(2):
        await organization.settle(_part("0", hold=40, cost=30))
    await organization.settle(_part("adjust:1", cost=-5))

    assert {TOTAL_WINDOW: (25, 100)} == await purse(store)
    assert [] == await _findings(store)


async def test_what_was_read_long_ago_is_not_booked(
    organization: Organization, store: Store
) -> None:
    """It may have been booked and forgotten; a part that is marked stays done."""
    await _reserve(organization, 100)
    old_ms = CLOCK.now_ms() - APPLY_WITHIN_MS - 1_000
    with pytest.raises(LateError):
        await organization.settle(_part("0", hold=40, cost=30, read_ms=old_ms))
    await organization.settle(_part("0", hold=40, cost=30))
    await organization.settle(_part("0", hold=40, cost=30, read_ms=old_ms))

    assert {TOTAL_WINDOW: (30, 60)} == await purse(store)


async def test_a_release_gives_all_back_once(organization: Organization, store: Store) -> None:
    """Also what it was raised by; and its task can never hold again."""
    await _reserve(organization, 100)
    await organization.raise_hold(TASK, "0", 20)
    for _ in range(2):
        await organization.release(TASK)
    with pytest.raises(StoreUnavailable):
        await _reserve(organization, 100)

    assert {TOTAL_WINDOW: (0, 0)} == await purse(store)
    assert () == await organization.orphans(LONG_AGO_MS)
    assert 0 < await lives_ms(store, TASK) <= REMEMBER_MS
    assert [] == await _findings(store)


async def test_a_release_that_overtakes_its_reserve(
    organization: Organization, store: Store
) -> None:
    """The reserve whose answer was never heard is refused when it comes after all."""
    await organization.release(TASK)
    with pytest.raises(StoreUnavailable):
        await _reserve(organization, 100)

    assert {} == await purse(store)
    assert 0 < await lives_ms(store, TASK) <= REMEMBER_MS


async def test_a_release_does_not_touch_what_is_settled(
    organization: Organization, store: Store
) -> None:
    """Only what is still open goes back, and a hold that is over stays remembered."""
    await _reserve(organization, 100)
    await organization.settle(_part("0", hold=40, cost=30))
    await organization.release(TASK)
    await _reserve(organization, 10, task=TaskId("t2"))
    await organization.settle(_part("0", hold=10, cost=10, task=TaskId("t2")))
    await organization.release(TaskId("t2"))

    assert {TOTAL_WINDOW: (40, 0)} == await purse(store)
    assert -1 == await lives_ms(store, TaskId("t2"))
    assert [] == await _findings(store)


async def test_a_hold_leaves_the_windows_it_was_taken_from(store: Store) -> None:
    """Whatever budgets there are by now; an end counts in theirs, too, with what is still open."""
    before, after = _here(hours=6), _here(hours=12)
    first = Organization(store, CLOCK, [before])
    for task in ("t1", "t2"):
        await _reserve(first, 100, task=TaskId(task))
    second = Organization(store, CLOCK, [after])
    await _reserve(second, 7, task=TaskId("t3"))
    await second.raise_hold(TASK, "0", 50)
    raised = await purse(store)
    await second.settle(_part("0", hold=60, cost=80))
    await second.release(TaskId("t2"))
    old, new = (_window(budget) for budget in (before, after))

    assert {old: (0, 250), new: (0, 7)} == raised
    assert {old: (80, 40), new: (80, 47)} == await purse(store)
    assert [] == await _findings(store)


async def test_what_is_in_flight_is_held_where_a_budget_comes(store: Store) -> None:
    """Also over its limit, what is open of it and no more; once, and to its end."""
    before, after = _here(hours=6), replace(_here(hours=12), limit_microusd=10)
    first = Organization(store, CLOCK, [before])
    await _reserve(first, 100)
    await first.raise_hold(TASK, "0", 50)
    await first.settle(_part("1", hold=40, cost=30))
    second = Organization(store, CLOCK, [before, after])
    for _ in range(2):
        await second.restore(TASK, TEAM, {"0": 60, "1": 40}, CLOCK.now_ms())
    held = await purse(store)
    with pytest.raises(BudgetExceeded):
        await second.reserve(TaskId("t2"), TEAM, 1, _admit_by_ms())
    await first.settle(_part("0", hold=60, cost=80))
    old, new = (_window(budget) for budget in (before, after))

    assert {old: (30, 110), new: (30, 110)} == held
    assert {old: (110, 0), new: (110, 0)} == await purse(store)
    assert [] == await _findings(store)


async def test_no_script_touches_a_window_that_was_not_named(
    organization: Organization, store: Store
) -> None:
    """On a cluster it must not: it tells which windows the hold is in, and changes nothing."""
    await _reserve(organization, 100)
    hold, holds, settled = "{org}:hold:t1", "{org}:holds", "{org}:settled"
    ledger, month, total = "{org}:ledger", "{org}:spent:202611", "{org}:spent:total"
    order = {"id": TASK, "team": TEAM, "part": "0", "hold": 1, "cost": 1, "windows": []}
    order |= {"apply_by_ms": _admit_by_ms(), "created_ms": 0, "owner": "organization|"}
    asked: list[tuple[Script, list[str], list[str | bytes]]] = [
        (organization._raise, [hold, ledger], [TASK, "0", "5"]),
        (organization._release, [hold, holds, ledger], [TASK, "1000"]),
        (
            organization._settle,
            [hold, holds, settled, ledger, month, total],
            [orjson.dumps(order)],
        ),
    ]
    answers = [await store.run(script, keys, arguments) for script, keys, arguments in asked]

    assert [[b"windows", [b"{org}:budget:organization::ever:0"]]] * 3 == answers
    assert {TOTAL_WINDOW: (0, 100)} == await purse(store)


async def test_a_reserve_repeated_after_a_change_of_budgets(store: Store) -> None:
    """It holds once, in the windows of the first time."""
    await _reserve(Organization(store, CLOCK, [_here(hours=6)]), 100)
    answer = await Organization(store, CLOCK, [_here(hours=12)]).reserve(
        TASK, TEAM, 100, _admit_by_ms()
    )

    assert () == answer
    assert [(0, 100)] == list((await purse(store)).values())


async def test_budgets_may_go_while_money_is_held_in_them(store: Store) -> None:
    """The next call is held nowhere; what is held settles where it was held."""
    organization = Organization(store, CLOCK, [TOTAL])
    await _reserve(organization, 100)
    organization.limit([])
    unlimited = await organization.reserve(TaskId("t2"), TEAM, 5_000, _admit_by_ms())
    told = organization.has_budgets, Organization(store, CLOCK, []).has_budgets
    await organization.settle(_part(hold=100, cost=80))
    organization.limit([TOTAL])
    again = await _reserve(organization, 10, task=TaskId("t3"))

    assert () == unlimited
    assert (True, False) == told
    assert (80, 10) == again
    assert [] == await _findings(store)


@pytest.mark.parametrize("others", [[], [Budget("month", 900, Period.MONTH)]])
async def test_a_budget_that_comes_back_knows_what_was_spent_without_it(
    store: Store, others: list[Budget]
) -> None:
    """Its window was there all the while, whether another one was in its place or none."""
    organization = Organization(store, CLOCK, [TOTAL])
    await _reserve(organization, 100)
    await organization.settle(_part(hold=100, cost=80))
    organization.limit(others)
    await organization.reserve(TaskId("t2"), TEAM, 50, _admit_by_ms())
    await organization.settle(_part(hold=50, cost=40, task=TaskId("t2")))
    now_ms = CLOCK.now_ms()
    spent = {now_ms - now_ms % BUCKET_MS: 7}
    await organization.book_untold(Untold(TEAM, TaskId("untold"), spent, 0, now_ms))
    organization.limit([TOTAL])
    for _ in range(2):
        await organization.recount()

    assert (127, 10) == await _reserve(organization, 10, task=TaskId("t3"))
    assert [] == await _findings(store)


async def test_a_new_budget_starts_from_what_was_spent(store: Store) -> None:
    """In its window, by all teams, with or without a hold; corrections included."""
    day_ms = 86_400_000
    nobody = Organization(store, CLOCK, [])
    await nobody.settle(_part("0", cost=30))
    await nobody.settle(
        _part("0", cost=500, task=TaskId("t2"), created_ms=CLOCK.now_ms() - 3 * day_ms)
    )
    await nobody.settle(_part("1", cost=7, created_ms=CLOCK.now_ms() - 40 * day_ms))
    await nobody.settle(_part("adjust:1", cost=-10))
    day, total = await Organization(store, CLOCK, [_here(hours=12), TOTAL]).reserve(
        TaskId("t3"), TEAM, 1, _admit_by_ms()
    )

    assert 1 == await store.command("HLEN", f"{{org}}:spent:{_month(CLOCK.now_ms() - 40 * day_ms)}")
    assert (20, 527) == (day.spent_microusd, total.spent_microusd)
    assert [] == await _findings(store)


async def test_a_task_without_a_hold_is_booked_in_the_window_it_was_admitted_in(
    store: Store,
) -> None:
    """Not in today's, when it was admitted the day before yesterday."""
    organization = Organization(store, CLOCK, [_here(hours=12)])
    await _reserve(organization, 10, task=TaskId("t2"))
    await organization.settle(_part("0", cost=30, created_ms=CLOCK.now_ms() - 2 * 86_400_000))
    await organization.settle(_part("1", cost=40))

    assert [(40, 10)] == list((await purse(store)).values())


async def test_a_lost_hold_is_held_again(organization: Organization, store: Store) -> None:
    """Over budget if need be, once, and also when it was freed meanwhile."""
    await _reserve(organization, 300)
    await organization.raise_hold(TASK, "0", 50)
    await organization.release(TASK)
    await _reserve(organization, 800, task=TaskId("t2"))
    for _ in range(2):
        await organization.restore(TASK, TEAM, {"0": 300}, CLOCK.now_ms() - 60_000)
    held = await purse(store)
    await organization.settle(_part("0", hold=200, cost=150))

    assert {TOTAL_WINDOW: (0, 1_100)} == held
    assert {TOTAL_WINDOW: (150, 900)} == await purse(store)
    assert [TaskId("t1"), TaskId("t2")] == [
        hold.task for hold in await organization.orphans(LONG_AGO_MS)
    ]
    assert -1 == await lives_ms(store, TASK)
    assert [] == await _findings(store)


async def test_open_holds_are_due_after_their_admission(organization: Organization) -> None:
    """From the moment on at which the team refuses them, and not while they are put off."""
    await _reserve(organization, 1)
    young = await organization.orphans(0)
    [hold] = await organization.orphans(-11_000)
    await organization.postpone(hold, CLOCK.now_ms() + 60_000)

    assert () == young
    assert (TEAM, TASK) == (hold.team, hold.task)
    assert () == await organization.orphans(-11_000)
    assert 1 == len(await organization.orphans(-61_000))


async def test_each_index_names_what_it_is_of(organization: Organization) -> None:
    """A hold is among the open ones or among those that are over, never among both."""
    seen = []

    async def look() -> None:
        open_holds = await organization.orphans(LONG_AGO_MS)
        seen.append((len(open_holds), len(await organization.settled(LONG_AGO_MS))))

    await _reserve(organization, 1)
    await look()
    await organization.settle(_part("0", hold=1, cost=1))
    await look()
    await organization.restore(TASK, TEAM, {"0": 1, "1": 1}, CLOCK.now_ms())
    await look()

    assert [(1, 0), (0, 1), (1, 0)] == seen


async def test_a_part_of_a_task_that_was_released_is_remembered(
    organization: Organization, store: Store
) -> None:
    """Its record was lost and written anew: its cost is booked once, however late it is told."""
    await organization.release(TASK)
    await organization.settle(_part("0", hold=1, cost=1))

    assert -1 == await lives_ms(store, TASK)


async def test_putting_off_does_not_open_a_hold(organization: Organization) -> None:
    """One that ended meanwhile is not in the index again."""
    await organization.postpone(Kept(TEAM, TASK, 0), 1)

    assert () == await organization.orphans(LONG_AGO_MS)


async def test_a_hold_that_is_over_is_remembered_until_it_may_be_forgotten(
    organization: Organization, store: Store
) -> None:
    """It expires only when it is let go, and not when something came in between."""
    await _reserve(organization, 1)
    await organization.settle(_part("0", hold=1, cost=1))
    stays = await lives_ms(store, TASK)
    [seen] = await organization.settled(LONG_AGO_MS)
    await organization.settle(_part("adjust:1", cost=-1))
    await organization.forget([seen])
    changed = await lives_ms(store, TASK)
    await organization.forget(await organization.settled(LONG_AGO_MS))

    assert (-1, -1) == (stays, changed)
    assert 0 < await lives_ms(store, TASK) <= REMEMBER_MS
    assert () == await organization.settled(LONG_AGO_MS)
    assert () == await organization.settled(60_000)


async def test_books_that_do_not_agree_are_found(organization: Organization, store: Store) -> None:
    """The organization's windows are recomputed from its own entries."""
    await _reserve(organization, 10)
    await store.command("HINCRBY", "{org}:budget:organization::ever:0", "held", 5)

    assert [
        "{org}:budget:organization::ever:0: held is $0.000015, by the ledger $0.00001"
    ] == await _findings(store)


def _here(*, hours: int) -> Budget:
    """Return a daily budget of a place where it is about this hour now, far from midnight."""
    hour_now = CLOCK.now_ms() // 3_600_000 % 24
    return Budget("day", 1_000, Period.DAY, timezone(timedelta(hours=hours - hour_now)))


def _month(moment_ms: int) -> str:
    return f"{datetime.fromtimestamp(moment_ms // 1000, UTC):%Y%m}"


def _window(budget: Budget) -> str:
    offset = budget.timezone.utcoffset(None)
    assert offset is not None
    offset_ms = round(offset.total_seconds()) * 1000
    now_ms = CLOCK.now_ms()
    return f"day:{now_ms - (now_ms + offset_ms) % 86_400_000}"
