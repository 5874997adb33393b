from __future__ import annotations

import asyncio
from copy import deepcopy
from fractions import Fraction

import pytest

from gateway.domain.errors import InternalError
from gateway.domain.task import FailureKind
from gateway.providers.interface import Accepted, Failed, NotSent, Running, Unknown
from gateway.tasks.live import MovedError
from tests.support.engine import (
    COST,
    DONE,
    HOLD,
    House,
    ScriptedProvider,
    open_house,
    over,
    until,
)
from tests.support.journal import TroubledStore, a_journal, ledger_in, record_in

BROKE = Failed(FailureKind.GENERATION_FAILED, "it broke")


def raising() -> ScriptedProvider:
    """Build an upstream that sets more aside than was held."""
    return ScriptedProvider(submits=[Accepted("up-1", credits_reserved=Fraction("0.816"))])


@pytest.mark.parametrize(
    "scripts",
    [
        ("advance",),
        ("advance", "advance"),
        ("raise",),
        ("conclude",),
        ("advance", "advance", "advance", "advance", "raise", "conclude", "conclude"),
    ],
    ids="+".join,
)
async def test_answers_that_are_lost_change_nothing(
    troubled: TroubledStore, scripts: tuple[str, ...]
) -> None:
    """Each step is repeated until it is heard of; books and counters are as if it ran once."""
    troubled.losing = list(scripts)
    async with open_house(troubled, provider=raising()) as house:
        outcome = await house.picture()
        lines = [line["verb"] for line in await ledger_in(troubled)]

        assert [] == troubled.losing
        assert (1, 1) == (len(outcome.delivered), len(house.provider.keys))
        assert (COST, 0) == await house.money()
        assert ["hold", "raise", "settle"] == lines
        assert 1 == house.renders("completed")
        assert COST / 1e6 == pytest.approx(
            sum(
                sample.value
                for family in house.metrics.cost.collect()
                for sample in family.samples
                if sample.name == "gateway_cost_usd_total"
            )
        )


@pytest.mark.parametrize(
    ("provider", "keys", "spent"),
    [
        (ScriptedProvider(submits=[NotSent("refused"), Accepted("up-1")]), 2, COST),
        (ScriptedProvider(polls_of={"up-1": [BROKE]}), 2, COST),
        (ScriptedProvider(submits=[Unknown("no answer")]), 1, HOLD),
    ],
    ids=["not sent", "tried again", "unknown"],
)
async def test_answers_that_are_lost_on_byways(
    troubled: TroubledStore, provider: ScriptedProvider, keys: int, spent: int
) -> None:
    """However a render goes, a repeated step is no second submission and no second charge."""
    # The table's own is used once for each kind of store.
    provider = deepcopy(provider)
    troubled.losing = 4 * ["advance"]
    async with open_house(troubled, provider=provider) as house:
        live = await house.admit()
        async with asyncio.timeout(60):
            while not live.done.done():
                await asyncio.sleep(0.01)
                if house.poller.delays_s:
                    await house.poller.poll()

        assert keys == len(provider.keys) == len(set(provider.keys))
        assert (spent, 0) == await house.money()


@pytest.mark.parametrize(
    ("scripts", "lines"),
    [
        (("conclude",), ["hold", "raise", "settle"]),
        # Before the post, before the id is noted, before the hold is raised.
        (("advance",), ["hold", "raise", "settle"]),
        (("advance", "advance"), ["hold", "raise", "settle"]),
        (("raise",), ["hold", "raise", "settle"]),
        (("advance", "raise", "conclude"), ["hold", "raise", "settle"]),
    ],
    ids="+".join,
)
async def test_a_record_the_store_lost_is_written_again_and_settled(
    troubled: TroubledStore, scripts: tuple[str, ...], lines: list[str]
) -> None:
    """Wherever the store comes back empty, the books still get the picture's cost (rule 18)."""
    troubled.forgetting = list(scripts)
    async with open_house(troubled, provider=raising()) as house:
        outcome = await house.picture()

        assert [] == troubled.forgetting
        assert (1, 1) == (len(outcome.delivered), len(house.provider.keys))
        assert (COST, 0) == await house.money()
        assert lines == [line["verb"] for line in await ledger_in(troubled)]


async def test_what_had_ended_is_not_paid_for_again(house: House) -> None:
    """One of three was settled when the store lost everything: its cost is booked once more."""
    house.provider.polls_of = {"up-2": [Running(), DONE], "up-3": [Running(), DONE]}
    live = await house.admit(images=3)
    await house.poller.poll(3)
    before = await house.money()
    await house.store.command_everywhere("FLUSHALL")
    await house.poller.poll(2)
    outcome = await over(live)

    assert (COST, 2 * HOLD) == before
    assert 3 == len(outcome.delivered)
    assert (3 * COST, 0) == await house.money()
    assert 3 == house.renders("completed")
    assert "0" == (await record_in(house.store))["open"]


async def test_waiting_ends_at_once_when_a_defect_breaks_the_task(house: House) -> None:
    """Nobody waits out the whole time for a step that broke; its hold is left for recovery."""
    house.provider.polls = []
    live = await house.admit()
    with pytest.raises(IndexError):
        await house.poller.poll()
    with pytest.raises(InternalError):
        await over(live)

    assert (0, HOLD) == await house.money()
    assert 0 == house.sample("tasks_in_flight", provider="evolink")
    assert {} == house.engine.running


async def test_a_task_that_was_taken_over_is_let_go(house: House) -> None:
    """The first decision that is refused tells; nothing of it is done here any more."""
    live = await house.admit(images=2)
    await until(lambda: len(house.poller.delays_s) == 2)
    taker = a_journal(house.store, owner="replica_2")
    await taker.take(live.task.team, live.task.id, owner="replica_1")
    await house.poller.poll(2)
    with pytest.raises(MovedError):
        await over(live)

    assert {} == house.engine.running
    assert [] == house.poller.delays_s
    assert 0 == house.sample("tasks_in_flight", provider="evolink")
    assert (0, 2 * HOLD) == await house.money()
    assert [] == house.fetcher.fetched


async def test_a_defect_of_one_render_leaves_the_others_money_alone(house: House) -> None:
    """Its waiters are told; what the other was ordered for is still booked at its cost."""
    house.provider.polls_of = {"up-1": [DONE], "up-2": []}
    live = await house.admit(images=2)
    await until(lambda: len(house.poller.delays_s) == 2)
    with pytest.raises(IndexError):
        await house.poller.poll(2)
    with pytest.raises(InternalError):
        await over(live)

    assert (COST, HOLD) == await house.money()
    assert 0 == house.sample("tasks_in_flight", provider="evolink")
