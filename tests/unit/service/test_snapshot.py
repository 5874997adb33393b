from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from gateway.access.interface import TeamKeys
from gateway.domain.accounts import ApiKey, Caller
from gateway.domain.errors import BudgetState, StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.domain.limits import Period, Scope
from gateway.ledger.holds import ScopedBudget, Standing
from gateway.service.snapshot import EVERY_S, Snapshot
from gateway.telemetry.metrics import Metrics
from tests.support.clock import NOON_MS, in_virtual_time
from tests.support.factories import a_budget, a_budget_state, a_team


class Books:
    """A ledger to read: figures per team and scope, or no answer at all."""

    def __init__(self, states: dict[str, tuple[BudgetState, ...]]) -> None:
        self.states = states
        self.down = False
        self.reads = 0

    async def balances(self, caller: Caller, user: str = "") -> tuple[BudgetState, ...]:
        """Nobody asks for a caller's here."""
        raise NotImplementedError

    async def standings(self, budgets: Sequence[ScopedBudget]) -> tuple[Standing, ...]:
        """Return how the team's budgets stand. Raises StoreUnavailable."""
        self.reads += 1
        if self.down:
            raise StoreUnavailable
        return tuple(
            Standing(each.team, each.budget, each.candidates(NOON_MS)[0], state)
            for each in budgets
            for state in self.states[each.team]
            if (each.scope, each.budget.name) == (state.scope, state.name)
        )


class Teams:
    """Knows some teams, which may change."""

    def __init__(self, *teams: TeamKeys) -> None:
        self.teams = teams

    async def read(self) -> tuple[TeamKeys, ...]:
        """Return them."""
        return self.teams


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Standing] = []

    def __call__(self, standings: Sequence[Standing]) -> None:
        """Forget what was told before."""
        self.told = list(standings)


DAY = a_budget_state(
    limit_microusd=50_000_000, spent_microusd=7834, held_microusd=10_156, resets_at_ms=1
)
GRANT = a_budget_state(name="grant", limit_microusd=600_000_000)
DESIGN = TeamKeys(a_team(budgets=(a_budget(), a_budget("grant", per=Period.TOTAL))), ())
OPS = TeamKeys(a_team(name="ops", budgets=(a_budget(),)), ())


def _metrics() -> Metrics:
    return Metrics(CollectorRegistry(), version="1")


async def _nothing(_team: TeamId) -> int:
    return 0


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
    metrics, books = _metrics(), Books({"design": (DAY, GRANT), "ops": (DAY,)})
    await Snapshot(books, Teams(DESIGN, OPS), metrics, Listener(), undelivered=_nothing).take()

    assert figures == tuple(
        _value(metrics, name, team, budget, per) for name in ("limit", "spent", "held")
    )


async def test_the_window_of_a_budget_is_shown() -> None:
    """From when to when it counts, for forecasts; a total has no end to go to."""
    metrics, books = _metrics(), Books({"design": (DAY, GRANT)})
    await Snapshot(books, Teams(DESIGN), metrics, Listener(), undelivered=_nothing).take()

    def shown(name: str, budget: str, per: str) -> float | None:
        labels = {"scope": "team", "team": "design", "name": budget, "per": per}
        return metrics.registry.get_sample_value(f"gateway_budget_window_{name}_seconds", labels)

    start, end = shown("start", "day", "day"), shown("end", "day", "day")
    assert DAY.resets_at_ms is not None
    assert (NOON_MS / 1000 - 43_200, DAY.resets_at_ms / 1000) == (start, end)
    assert (None, None) == (shown("start", "grant", "total"), shown("end", "grant", "total"))


async def test_what_was_read_is_told() -> None:
    """Budgets of teams and those of keys that announce; only the former have a label."""
    mine = replace(DAY, scope="key", owner="ci")
    loud, quiet = replace(a_budget(), alert_percents=(80,)), a_budget("week", per=Period.WEEK)
    keys = (ApiKey("ci", budgets=(loud, quiet)), ApiKey("web", budgets=(quiet,)))
    metrics, listener = _metrics(), Listener()
    books = Books({"design": (DAY, mine, replace(mine, name="week"))})
    await Snapshot(
        books, Teams(replace(DESIGN, keys=keys)), metrics, listener, undelivered=_nothing
    ).take()

    assert [DAY, mine] == [standing.state for standing in listener.told]
    assert (
        metrics.registry.get_sample_value(
            "gateway_budget_limit_usd",
            {"scope": "key", "team": "design", "name": "day", "per": "day"},
        )
        is None
    )


async def test_the_organization_s_budgets_are_asked_for_each_time() -> None:
    """They may change while it runs."""
    asked: list[tuple[str, ...]] = []

    class Noted(Books):
        async def standings(self, budgets: Sequence[ScopedBudget]) -> tuple[Standing, ...]:
            if budgets and budgets[0].scope is Scope.ORGANIZATION:
                asked.append(tuple(each.budget.name for each in budgets))
            return await super().standings(budgets)

    shared = [(a_budget("day"),), (), (a_budget("month"),)]
    snapshot = Snapshot(
        *(Noted({"(organization)": ()}), Teams(), _metrics(), Listener()),
        undelivered=_nothing,
        shared=iter(shared).__next__,
    )
    for _ in shared:
        await snapshot.take()

    assert [("day",), ("month",)] == asked


async def test_budgets_that_are_gone_are_shown_no_more() -> None:
    """A figure that nobody refreshes would stand there for ever."""
    metrics, teams = _metrics(), Teams(DESIGN, OPS)
    snapshot = Snapshot(
        Books({"design": (DAY,), "ops": (DAY,)}), teams, metrics, Listener(), undelivered=_nothing
    )
    await snapshot.take()
    teams.teams = (DESIGN,)
    await snapshot.take()

    assert [50.0, None] == [
        _value(metrics, "limit", team, "day", "day") for team in ("design", "ops")
    ]


async def test_a_store_that_does_not_answer_is_told() -> None:
    """Taking the figures once fails when the store does, and nothing is told."""
    books, listener = Books({}), Listener()
    books.down = True
    with pytest.raises(StoreUnavailable):
        await Snapshot(books, Teams(DESIGN), _metrics(), listener, undelivered=_nothing).take()

    assert [] == listener.told


def test_the_loop_outlives_the_store() -> None:
    """`store_up` and the log follow the store; figures are at most ten seconds old (rule 22)."""
    metrics = _metrics()
    books = Books({"ops": (DAY,)})

    async def scenario() -> list[tuple[float | None, int]]:
        seen = []
        async with asyncio.TaskGroup() as group:
            loop = group.create_task(
                Snapshot(books, Teams(OPS), metrics, Listener(), undelivered=_nothing).run()
            )
            for down in (True, False, False):
                await asyncio.sleep(EVERY_S / 2)
                seen.append((metrics.registry.get_sample_value("gateway_store_up"), books.reads))
                books.down = down
                await asyncio.sleep(EVERY_S / 2)
            loop.cancel()
        return seen

    with capture_logs() as logs:
        seen = in_virtual_time(scenario())
    assert EVERY_S <= 10
    assert ["store_down", "store_back"] == [entry["action"] for entry in logs]
    # The organization's are read first, and what fails is not gone on with.
    assert seen == [(1, 2), (0, 3), (1, 5)]


def test_what_is_followed_is_looked_at_whether_the_store_answers_or_not() -> None:
    """Other workers tell figures of this one that are at most as old as a budget's."""
    metrics = _metrics()
    books = Books({"ops": (DAY,)})
    books.down = True
    lengths = iter([3, 5, 7])
    metrics.follow(metrics.queue_length.labels("evolink"), lambda: next(lengths))

    async def scenario() -> list[float | None]:
        seen = []
        async with asyncio.TaskGroup() as group:
            snapshot = Snapshot(books, Teams(OPS), metrics, Listener(), undelivered=_nothing)
            loop = group.create_task(snapshot.run())
            for _ in range(2):
                await asyncio.sleep(EVERY_S / 2)
                seen.append(
                    metrics.registry.get_sample_value(
                        "gateway_queue_length", {"provider": "evolink"}
                    )
                )
                await asyncio.sleep(EVERY_S / 2)
            loop.cancel()
        return seen

    assert [3, 5] == in_virtual_time(scenario())


async def test_what_nobody_fetched_is_shown_by_team() -> None:
    """In dollars, zero too; a team that is gone is shown no more."""
    metrics, teams = _metrics(), Teams(DESIGN, OPS)
    paid = {"design": 30_417, "ops": 0}

    async def undelivered(team: TeamId) -> int:
        return paid[team]

    books = Books({"design": (DAY,), "ops": (DAY,)})
    snapshot = Snapshot(books, teams, metrics, Listener(), undelivered=undelivered)
    seen = []
    for known in ((DESIGN, OPS), (OPS,)):
        teams.teams = known
        await snapshot.take()
        seen.append(
            [
                metrics.registry.get_sample_value("gateway_paid_undelivered_usd", {"team": team})
                for team in ("design", "ops")
            ]
        )

    assert [[0.030417, 0.0], [None, 0.0]] == seen
