import asyncio

import pytest
from prometheus_client import CollectorRegistry

from gateway.domain.accounts import Caller
from gateway.domain.errors import BudgetState, StoreUnavailable
from gateway.service.snapshot import EVERY_S, Snapshot
from gateway.telemetry.metrics import Metrics
from tests.support.clock import in_virtual_time
from tests.support.factories import a_budget_state, a_team


class Books:
    """A ledger to read: figures per team, or no answer at all."""

    def __init__(self, states: dict[str, tuple[BudgetState, ...]]) -> None:
        self.states = states
        self.down = False
        self.reads = 0

    async def balances(self, caller: Caller, user: str = "") -> tuple[BudgetState, ...]:
        """Return the team's budgets. Raises StoreUnavailable."""
        assert not caller.key.budgets
        assert not user
        self.reads += 1
        if self.down:
            raise StoreUnavailable
        return self.states[caller.team.id]


DAY = a_budget_state(
    limit_microusd=50_000_000, spent_microusd=7834, held_microusd=10_156, resets_at_ms=1
)
GRANT = a_budget_state(name="grant", limit_microusd=600_000_000)
TEAMS = [a_team(name="design"), a_team(name="ops")]


def _value(metrics: Metrics, name: str, team: str, budget: str, per: str) -> float | None:
    labels = {"scope": "team", "team": team, "name": budget, "per": per}
    return metrics.registry.get_sample_value(f"gateway_budget_{name}_usd", labels)


@pytest.mark.parametrize(
    ("team", "budget", "per", "figures"),
    [
        ("design", "day", "day", (50.0, 0.007834, 0.010156)),
        ("design", "grant", "total", (600.0, 0.0, 0.0)),
        ("ops", "day", "day", (50.0, 0.007834, 0.010156)),
        ("ops", "grant", "total", (None, None, None)),
    ],
)
async def test_take(
    team: str, budget: str, per: str, figures: tuple[float | None, float | None, float | None]
) -> None:
    """Every budget of every team is shown in dollars: its limit, what is spent and what is held."""
    metrics = Metrics(CollectorRegistry(), version="1")
    await Snapshot(Books({"design": (DAY, GRANT), "ops": (DAY,)}), TEAMS, metrics).take()

    assert figures == tuple(
        _value(metrics, name, team, budget, per) for name in ("limit", "spent", "held")
    )


async def test_a_store_that_does_not_answer_is_told() -> None:
    """Taking the figures once fails when the store does."""
    books = Books({})
    books.down = True
    with pytest.raises(StoreUnavailable):
        await Snapshot(books, TEAMS, Metrics(CollectorRegistry(), version="1")).take()


def test_the_loop_outlives_the_store() -> None:
    """`store_up` follows the store, and the figures are at most ten seconds old (rule 22)."""
    metrics = Metrics(CollectorRegistry(), version="1")
    books = Books({"design": (DAY,)})

    async def scenario() -> list[tuple[float | None, int]]:
        seen = []
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(Snapshot(books, TEAMS[:1], metrics).run())
            for down in (True, False, False):
                await asyncio.sleep(EVERY_S / 2)
                seen.append((metrics.registry.get_sample_value("gateway_store_up"), books.reads))
                books.down = down
                await asyncio.sleep(EVERY_S / 2)
            loop.cancel()
        return seen

    assert EVERY_S <= 10
    assert in_virtual_time(scenario()) == [(1, 1), (0, 2), (1, 3)]
