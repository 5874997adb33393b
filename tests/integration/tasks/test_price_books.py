"""Tasks that change hands, settled by an engine that never had their prices in force."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction

import pytest
from structlog.testing import capture_logs

from gateway.domain.price_books import NOT_WRITTEN, WrittenBook, written
from gateway.domain.pricing import CallBilling, CallTier, PriceBook
from gateway.domain.task import RenderState, Task
from gateway.providers.interface import Accepted, Finished
from gateway.store.client import Store
from gateway.store.keyspace import book_key
from tests.support.engine import (
    DONE,
    HOLD,
    OFFER,
    TEAM,
    House,
    ScriptedProvider,
    open_house,
    over,
    until,
)
from tests.support.factories import a_book, an_admission
from tests.support.journal import a_journal, admitted, left_in

#: The upstream is done and says nothing of what it bills.
UNBILLED = replace(DONE, usage=None, credits_used=None)
BILLED = replace(UNBILLED, credits_used=Fraction("0.544"))


def flat(microusd: int, *, rate: int = 68) -> PriceBook:
    """Return a book of one price for every picture, and a rate of exchange."""
    billing = CallBilling((CallTier(None, Fraction(microusd)),))
    return replace(a_book(billing=billing), credits_per_usd=Fraction(rate))


OLD, NEW = flat(7_000), flat(9_000, rate=34)
TODAY = replace(OFFER, book=NEW, written=written(NEW))


@pytest.fixture
async def house(store: Store) -> AsyncIterator[House]:
    """Run an engine with other prices in force than those of `OLD`."""
    async with open_house(store, offer=TODAY) as opened:
        yield opened


async def left(store: Store, book: WrittenBook, state: RenderState = RenderState.SUBMITTED) -> Task:
    """Return a task that was quoted by a book, of a replica that died."""
    dead = a_journal(store, owner="replica_0")
    admission = replace(an_admission(team=TEAM, images=2, hold_microusd=HOLD), book=book)
    task = (await admitted(dead, admission)).task
    for index in range(2):
        task = await left_in(dead, task, state, index)
    return task


@pytest.mark.parametrize(
    ("finished", "each_microusd"),
    [(UNBILLED, 7_000), (BILLED, 8_000)],
)
async def test_a_task_costs_what_it_was_quoted_whoever_settles_it(
    house: House, finished: Finished, each_microusd: int
) -> None:
    """By the price it had then, and by what a credit was worth then; nothing is said of it."""
    house.provider.polls = [finished]
    with capture_logs() as lines:
        await over(await house.take(await left(house.store, written(OLD))))

    assert (2 * each_microusd, 0) == await house.money()
    assert "task_repriced" not in [line["action"] for line in lines]


async def test_a_task_whose_model_is_gone_keeps_its_price(store: Store) -> None:
    """Nobody offers it any more, and what it was quoted by is known all the same."""
    async with open_house(store, offer=None) as house:
        house.provider.polls = [UNBILLED]
        await over(await house.take(await left(store, written(OLD))))

        assert (14_000, 0) == await house.money()


@pytest.mark.parametrize(
    ("lack", "book"),
    [
        ("unsaid", NOT_WRITTEN),
        ("gone", written(OLD)),
        ("unreadable", WrittenBook("newer", '{"billing": {"form": "by mood"}}')),
    ],
)
async def test_prices_that_nobody_can_tell_are_those_in_force(
    house: House, lack: str, book: WrittenBook
) -> None:
    """Counted and logged once for the task; how bills differ from them is no drift."""
    task = await left(house.store, book)
    if lack == "gone":
        await house.store.command("DEL", book_key(TEAM.id, task.book))
    house.provider.polls_of = {"up-1": [UNBILLED], "up-2": [BILLED]}
    with capture_logs() as lines:
        await over(await house.take(task))

    # A flat price of today, and 0.544 credits at 34 to the dollar.
    assert (9_000 + 16_000, 0) == await house.money()
    assert [(lack, task.book)] == [
        (line["lack"], line["book"]) for line in lines if line["action"] == "task_repriced"
    ]
    assert 1 == house.sample("repriced_tasks_total", provider="evolink")
    assert 0 == house.sample("billing_drift_usd_total", provider="evolink")


async def test_bills_are_compared_with_the_prices_that_were_quoted(house: House) -> None:
    """Two of 8,000 by the bill, where the price then was 7,000."""
    house.provider.polls = [BILLED]
    await over(await house.take(await left(house.store, written(OLD))))

    drift = house.sample("billing_drift_usd_total", provider="evolink")
    assert 0.002 == pytest.approx(drift)


async def test_a_hold_is_raised_at_the_rate_that_was_quoted(store: Store) -> None:
    """What the upstream sets aside is in credits of then: 1.36 are two cents."""
    provider = ScriptedProvider(
        submits=[Accepted("up-1", credits_reserved=Fraction("1.36"))], polls=[UNBILLED]
    )
    async with open_house(store, offer=TODAY, provider=provider) as house:
        live = await house.take(await left(store, written(OLD), RenderState.QUEUED))
        await until(lambda: all(one.render.raised_microusd for one in live.renders))

        assert [10_000] * 2 == [one.render.raised_microusd for one in live.renders]
