from __future__ import annotations

import pytest

from gateway.domain.task import RenderState
from gateway.providers.interface import Running
from tests.support.engine import COST, DONE, House, over
from tests.support.journal import LINK, seen_to_by

QUEUED, SUBMITTED = RenderState.QUEUED, RenderState.SUBMITTED
COMPLETED, FAILED = RenderState.COMPLETED, RenderState.FAILED
#: What a picture had cost that another replica has settled.
THEIR_COST = 30


async def test_a_queued_render_is_submitted(house: House) -> None:
    """Nothing was sent for it: it is ordered, and its hold is the one there is."""
    live = await house.adopt(QUEUED)
    await house.poller.poll()
    outcome = await over(live)

    assert (1, 1) == (len(outcome.delivered), len(house.provider.keys))
    assert (COST, 0) == await house.money()


async def test_a_submitted_render_is_asked_about_at_once(house: House) -> None:
    """Nobody knows when that was done last; it is never ordered again."""
    outcome = await over(await house.adopt(SUBMITTED))

    assert (["up-1"], []) == (house.provider.polled, house.provider.keys)
    assert 1 == len(outcome.delivered)
    assert (COST, 0) == await house.money()


async def test_a_submitted_render_is_followed_from_its_submit(house: House) -> None:
    """Later polls are as far apart as those of a task of that age, whoever submitted it."""
    house.provider.polls = [Running(), DONE]
    task = await house.left_behind(SUBMITTED)
    await house.later(600.0)
    live = await house.take(task)
    [delay_s] = await house.poller.poll()
    await over(live)

    # A gap may be a second and ten percent of the ten minutes (rule 21); after a submit of our own
    # it would be one second.
    assert 5.0 < delay_s <= 61.0
    assert 600.0 == pytest.approx(house.clock.monotonic_s() - live.renders[0].submitted_s, abs=5.0)


async def test_a_picture_that_is_paid_for_is_fetched(house: House) -> None:
    """Its money is settled: what is left is the copy, from the link that was journaled."""
    outcome = await over(await house.adopt(COMPLETED))
    await house.shelf.flush()

    assert [(LINK, "design/task1/0")] == house.fetcher.fetched
    assert ([], []) == (house.provider.keys, house.provider.polled)
    assert (1, THEIR_COST) == (len(outcome.delivered), outcome.cost_microusd)
    assert (THEIR_COST, 0) == await house.money()
    assert [] == await seen_to_by(house.store)


async def test_each_render_goes_on_from_where_it_is(house: House) -> None:
    """One of each: what is over stays over, and the money is the sum."""
    live = await house.adopt(FAILED, COMPLETED, SUBMITTED, QUEUED)
    await house.poller.poll()
    outcome = await over(live)

    assert [1, 2, 3] == [render.index for render in outcome.delivered]
    assert 1 == len(house.provider.keys)
    assert THEIR_COST + 2 * COST == outcome.cost_microusd
    assert (THEIR_COST + 2 * COST, 0) == await house.money()


async def test_a_task_that_is_over_needs_nothing(house: House) -> None:
    """Neither the upstream nor the fetcher hears of it."""
    task = await house.left_behind(FAILED, FAILED)
    house.engine.adopt(task)

    assert ([], [], []) == (
        *(house.provider.keys, house.provider.polled),
        house.fetcher.fetched,
    )
    assert {} == house.engine.running
