from __future__ import annotations

from gateway.background import SystemClock
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Period
from gateway.ledger.holds import budgets_of
from gateway.ledger.redis_ledger import RedisLedger
from gateway.store.client import Store

TEAM = Team(
    id=TeamId("design"),
    models=("*",),
    budgets=(
        Budget(name="month", limit_microusd=100, per=Period.MONTH),
        Budget(name="total", limit_microusd=250, per=Period.TOTAL),
    ),
)
CALLER = Caller(TEAM, ApiKey("ci"))


async def test_untouched_budgets_are_whole(store: Store) -> None:
    """A window nobody has spent in reads as zero."""
    month, total = await RedisLedger(store, SystemClock()).balances(CALLER)

    assert (100, 250) == (month.remaining_microusd, total.remaining_microusd)
    assert month.resets_at_ms is not None
    assert total.resets_at_ms is None


async def test_balances_are_those_of_the_current_window(store: Store) -> None:
    """What other windows hold is not counted."""
    clock = SystemClock()
    current, following = budgets_of(CALLER, "")[0].candidates(clock.now_ms())
    await store.command("HSET", current.key, "spent", 30, "held", 20)
    await store.command("HSET", following.key, "spent", 99)
    month, total = await RedisLedger(store, clock).balances(CALLER)

    assert (30, 20, 50) == (month.spent_microusd, month.held_microusd, month.remaining_microusd)
    assert ("month", "team", 0) == (month.name, month.scope, total.spent_microusd)


async def test_standings_tell_windows_and_refusals(store: Store) -> None:
    """Which window it is, and whether a call did not fit below the limit that it has now."""
    clock = SystemClock()
    month, total = budgets_of(CALLER, "")
    [window] = total.candidates(clock.now_ms())
    refused = []
    for change in (("refused_at", 250), ("topped_up", 50), ("refused_at", 300)):
        await store.command("HSET", window.key, *change)
        [_, standing] = await RedisLedger(store, clock).standings((month, total))
        refused.append(standing.refused)

    assert [True, False, True] == refused
    assert (TEAM.id, total.budget, window) == (standing.team, standing.budget, standing.window)
    assert (300, 50) == (standing.state.limit_microusd, standing.state.topped_up_microusd)
