from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from functools import partial

import pytest

from gateway.assembly.house import _correct
from gateway.assets.interface import AssetUnavailableError, LinkDeadError, LinkUnavailableError
from gateway.domain.ids import TaskId
from gateway.domain.images import Output, PictureFormat
from gateway.domain.pricing import CallBilling, CallTier, ChargeBasis
from gateway.domain.task import CURABLE_FAILURES, FailureKind, RenderState
from gateway.ledger.redis_books import RedisBooks
from gateway.providers.interface import (
    Accepted,
    Failed,
    Finished,
    Missing,
    PollFailed,
    PollOutcome,
    Running,
)
from gateway.store.client import Store
from gateway.tasks import finishing
from gateway.tasks.finishing import MISSING_GRACE_S, RENDER_TRIES
from gateway.tasks.heralds import PROVEN_BY
from gateway.tasks.latencies import HERALDED_BUDGET
from gateway.tasks.latencies import PROVEN_BY as PROVED_BY
from gateway.tasks.live import Outcome
from gateway.tasks.scouts import WAIT_MAX_S
from gateway.tasks.wake import Kind, Message
from tests.support.engine import (
    COST,
    DONE,
    HOLD,
    OFFER,
    PATIENCE,
    TEAM,
    House,
    ScriptedProvider,
    failures_of,
    open_house,
    over,
    until,
)
from tests.support.factories import an_admission
from tests.support.journal import LINK, keys_in, seen_to_by

CALLED_BACK = Message(Kind.CALLED_BACK, TEAM.id, TaskId("task1"))
BROKE = Failed(FailureKind.GENERATION_FAILED, "it broke")


async def test_a_callback_before_the_first_poll_is_no_less_news(house: House) -> None:
    """It comes while the submit's answer is written down: there is no poll to hurry yet."""

    async def call_back() -> None:
        house.engine.hear(CALLED_BACK)

    house.provider.before_submit = call_back
    live = await house.admit()
    [delay_s] = await house.poller.poll()

    assert 0.0 == pytest.approx(delay_s, abs=0.1)
    assert 1 == len((await over(live)).delivered)


async def test_a_callback_during_a_poll_is_followed_by_another(house: House) -> None:
    """That poll may have been answered before the end; told twice of no end, nobody hurries."""
    house.provider.polls = [Running(), Running(), DONE]
    house.provider.during_poll = lambda: house.engine.hear(CALLED_BACK)
    live = await house.admit()
    await house.later(5.0)
    await house.poller.poll()
    house.provider.during_poll = None
    [at_once_s] = await house.poller.poll()
    [later_s] = await house.poller.poll()

    assert 0.0 == pytest.approx(at_once_s, abs=0.1)
    assert later_s > 0.5
    assert [1.0, 0.0] == [house.called_in_vain(why) for why in ("early", "repeated")]
    assert 1 == len((await over(live)).delivered)


async def test_callbacks_that_come_again_are_counted(house: House) -> None:
    """Each of them wakes, and none of them does harm."""
    live = await house.admit()
    await house.until_in(RenderState.SUBMITTED)
    for _ in range(3):
        house.engine.hear(CALLED_BACK)
    await house.poller.poll()

    assert 1 == len((await over(live)).delivered)
    assert [0.0, 2.0] == [house.called_in_vain(why) for why in ("early", "repeated")]


async def test_callbacks_are_learned_from(house: House) -> None:
    """Where they announce the ends, fewer polls look for them; the lag is counted from them."""
    for number in range(PROVEN_BY):
        task = f"task{number}"
        live = await house.admit(task)
        await house.later(3.0)
        house.engine.hear(replace(CALLED_BACK, task=live.task.id))
        await house.poller.poll()
        await over(live)
    polls = house.latencies.schedule_for(live.latency_class).plan.polls

    assert polls <= HERALDED_BUDGET
    assert 0.0 < house.sample("detection_lag_seconds_sum", provider="evolink") < PROVEN_BY


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [
        (Running(progress=50), 1.0),
        (PollFailed("HTTP 500"), 1.0),
        (PollFailed("HTTP 429", retry_after_s=7.0), 7.0),
        (Missing(), 1.0),
    ],
)
async def test_answers_that_keep_polling(house: House, answer: PollOutcome, pause_s: float) -> None:
    """A task that runs, a question that failed, and a task not known yet are asked about again."""
    house.provider.polls = [answer, DONE]
    live = await house.admit()
    await house.poller.poll()
    [delay_s] = await house.poller.poll()
    outcome = await over(live)

    assert 1 == len(outcome.delivered)
    assert pause_s == pytest.approx(delay_s, abs=0.2)
    assert 2 == live.renders[0].polls


@pytest.mark.parametrize(
    ("answer", "after_s"),
    [
        (Missing(), MISSING_GRACE_S),
        (Running(), PATIENCE.abandon_after_s),
        (PollFailed("x"), PATIENCE.abandon_after_s),
    ],
)
async def test_tasks_that_cannot_be_found_again_count_as_spent(
    house: House, answer: PollOutcome, after_s: float
) -> None:
    """Missing for longer than two minutes, or unfinished after a day: lost, and perhaps charged."""
    house.provider.polls = [answer]
    live = await house.admit()
    await house.poller.poll()
    await house.later(after_s - 1.0)
    await house.poller.poll()
    assert not live.done.done()
    await house.later(1.0)
    await house.poller.poll()
    outcome = await over(live)

    assert [FailureKind.RESULT_LOST] == failures_of(outcome)
    assert [RenderState.LOST] == [render.state for render in outcome.task.renders]
    assert (HOLD, 0) == await house.money()
    assert HOLD / 1e6 == house.sample("possible_charge_usd_total", provider="evolink")


async def test_a_picture_is_paid_for_with_its_true_cost(house: House) -> None:
    """The hold goes and what the upstream billed is spent, by its own account."""
    outcome = await house.picture()
    [render] = outcome.delivered

    assert COST == outcome.cost_microusd
    assert (COST, 0) == await house.money()
    assert render.result is not None
    assert DONE.usage == render.result.usage
    assert 1 == house.renders("completed")
    assert 272 == house.sample(
        "tokens_total", team="design", model="gpt-image-1.5", category="image_output"
    )


async def test_settlement_above_the_hold_is_booked_and_counted(house: House) -> None:
    """The upstream's truth is booked even when the hold was too small."""
    house.provider.polls = [Finished(DONE.links, DONE.usage, Fraction("0.816"))]
    await house.picture()

    assert (12_000, 0) == await house.money()
    assert 0.002 == house.sample("hold_overrun_usd_total", team="design")


async def test_a_raised_hold_is_settled_whole(house: House) -> None:
    """What was held more for a render is given back with the rest, and is no overrun."""
    house.provider.submits = [Accepted("up-1", credits_reserved=Fraction("0.816"))]
    house.provider.polls = [Finished(DONE.links, DONE.usage, Fraction("0.816"))]
    live = await house.admit()
    await house.until_in(RenderState.SUBMITTED)
    await house.poller.poll()
    await over(live)

    assert (12_000, 0) == await house.money()
    assert 0 == house.sample("hold_overrun_usd_total", team="design")


@pytest.mark.parametrize(
    ("kind", "credits_used", "spent"),
    [
        (FailureKind.MODERATION, None, 0),
        (FailureKind.MODERATION, Fraction(0), 0),
        (FailureKind.MODERATION, Fraction("0.533"), COST),
        # What was charged is not tried again, however curable it is.
        (FailureKind.GENERATION_FAILED, Fraction("0.533"), COST),
    ],
)
async def test_a_failure_costs_what_the_upstream_says_it_billed(
    house: House, kind: FailureKind, credits_used: Fraction | None, spent: int
) -> None:
    """Failures are free, unless the upstream reports a charge for one."""
    house.provider.polls = [Failed(kind, "no", credits_used)]
    outcome = await house.picture()

    assert [kind] == failures_of(outcome)
    assert ["up-1"] == [render.upstream_id for render in outcome.task.renders]
    assert (spent, 0) == await house.money()
    assert 1 == len(house.provider.keys)


@pytest.mark.parametrize("kind", sorted(CURABLE_FAILURES))
async def test_what_another_try_may_cure_is_tried_again(house: House, kind: FailureKind) -> None:
    """A task that failed at no charge is ordered anew under a new key, with its hold kept."""
    house.provider.polls_of = {"up-1": [Failed(kind, "no")]}
    live = await house.admit()
    await house.poller.poll()
    await house.poller.poll()
    [render] = (await over(live)).delivered

    assert ("up-2", 2) == (render.upstream_id, render.tries)
    assert 2 == len(set(house.provider.keys))
    assert (COST, 0) == await house.money()
    assert (1, 1, 0) == (
        *(house.renders("retried"), house.renders("completed")),
        house.renders("failed"),
    )


async def test_a_try_is_waited_for_like_the_first(house: House) -> None:
    """Its time and its polls count from its own submit."""
    house.provider.polls_of = {"up-1": [Running(), BROKE], "up-2": [Running(), DONE]}
    live = await house.admit()
    await house.poller.poll()
    await house.later(60.0)
    await house.poller.poll()
    await house.poller.poll()
    [delay_s] = await house.poller.poll()
    await over(live)

    assert 1.0 == pytest.approx(delay_s, abs=0.2)
    assert 2 == live.renders[0].polls


async def test_cures_end(house: House) -> None:
    """After its last try a render has failed; nothing was charged and nothing is held."""
    house.provider.polls = [BROKE]
    live = await house.admit()
    for _ in range(RENDER_TRIES):
        await house.poller.poll()
    outcome = await over(live)

    assert [FailureKind.GENERATION_FAILED] == failures_of(outcome)
    assert RENDER_TRIES == len(house.provider.keys) == outcome.task.renders[0].tries
    assert (0, 0) == await house.money()


@pytest.mark.parametrize("why", ["moderation", "deadline", "cancelled"])
async def test_what_is_not_tried_again(house: House, why: str) -> None:
    """A refusal of the request, a render that is too late, and one that nobody wants any more."""
    house.provider.polls = [Failed(FailureKind.MODERATION, "no") if why == "moderation" else BROKE]
    live = await house.admit()
    await house.until_in(RenderState.SUBMITTED)
    if why == "deadline":
        await house.later(PATIENCE.deadline_s + 1.0)
    if why == "cancelled":
        await house.engine.cancel(live.task.team, live.task.id)
    await house.poller.poll()
    outcome = await over(live)
    kind = FailureKind.MODERATION if why == "moderation" else FailureKind.GENERATION_FAILED

    assert [kind] == failures_of(outcome)
    assert (1, 0) == (len(house.provider.keys), house.renders("retried"))


async def test_who_is_tried_again_waits_for_a_turn(store: Store) -> None:
    """A failure makes room for whoever has waited for it; and its poll does not wait along.

    A poll has one of few places; those who wait for room need other polls to make it.
    """
    async with open_house(store, max_in_flight=1) as house:
        house.provider.polls_of = {"up-1": [BROKE]}
        first = await house.admit("task1")
        await house.until_in(RenderState.SUBMITTED)
        second = await house.admit("task2")
        async with asyncio.timeout(1.0):
            await house.poller.poll()
        [waiting] = (await house.until_in(RenderState.SUBMITTED, task="task2")).renders
        for live in (second, first):
            await house.poller.poll()
            await over(live)

        assert ("up-2", 3) == (waiting.upstream_id, len(house.provider.keys))


async def test_a_poll_does_not_wait_for_the_picture(house: House) -> None:
    """However long a picture takes to be fetched, others are asked about meanwhile."""
    house.fetcher.failures = 5 * [LinkUnavailableError()]
    live = await house.admit()
    await until(lambda: len(house.poller.delays_s) == 1)
    async with asyncio.timeout(1.0):
        await house.poller.poll()

    assert (COST, 0) == await house.money()
    assert not live.done.done()


async def test_completed_and_empty_is_charged_and_fails(house: House) -> None:
    """No picture in a completed task is a failure that costs money, and is not tried again."""
    house.provider.polls = [Finished(links=(), usage=None, credits_used=Fraction("0.533"))]
    outcome = await house.picture()

    assert [FailureKind.GENERATION_FAILED] == failures_of(outcome)
    assert (COST, 0) == await house.money()
    assert [] == await seen_to_by(house.store)
    assert 1 == len(house.provider.keys)


async def test_one_of_three_fails(house: House) -> None:
    """The others are delivered; what is spent is the sum of what was made."""
    house.provider.polls_of = {"up-2": [Failed(FailureKind.MODERATION, "no")]}
    live = await house.admit(images=3)
    await house.poller.poll(3)
    outcome = await over(live)

    assert [None, None, FailureKind.MODERATION] == sorted(
        failures_of(outcome), key=lambda kind: kind is not None
    )
    assert (2, 2 * COST) == (len(outcome.delivered), outcome.cost_microusd)
    assert (2 * COST, 0) == await house.money()
    assert (2, 1) == (house.renders("completed"), house.renders("failed"))


async def test_a_task_is_over_when_its_last_render_is(house: House) -> None:
    """Renders end one by one; what each costs is spent at once, and nobody is told before."""
    house.provider.polls_of = {"up-2": [Running(), DONE], "up-3": [Running(), Running(), DONE]}
    live = await house.admit(images=3)
    steps = []
    for count in (3, 2, 1):
        await house.poller.poll(count)
        await until(
            lambda ended=4 - count: ended == sum(one.render.settled for one in live.renders)
        )
        steps.append((await house.money(), live.done.done()))
    outcome = await over(live)

    assert [
        ((COST, 2 * HOLD), False),
        ((2 * COST, HOLD), False),
        ((3 * COST, 0), True),
    ] == steps
    assert [0, 1, 2] == [render.index for render in outcome.delivered]


@pytest.mark.parametrize("error", [LinkUnavailableError(), AssetUnavailableError()])
async def test_storing_is_tried_until_it_works(house: House, error: Exception) -> None:
    """A paid picture is not given up because a link or a disk stumbles."""
    house.fetcher.failures = [error]
    outcome = await house.picture()

    assert 1 == len(outcome.delivered)
    assert 2 * [(LINK, "design/task1/0")] == house.fetcher.fetched


async def test_storing_ends_one_day(house: House) -> None:
    """A picture that could not be stored for as long as anything is followed is lost."""
    house.fetcher.failures = [LinkUnavailableError()]
    house.fetcher.before_fetch = partial(house.clock.advance, PATIENCE.abandon_after_s + 1.0)
    outcome = await house.picture()

    assert () == outcome.delivered
    assert (COST, 0) == await house.money()
    assert 1 == len(house.fetcher.fetched)


async def test_a_dead_link_loses_the_picture_and_keeps_the_charge(house: House) -> None:
    """What cannot be fetched is told as lost; the money is spent, and nobody sees to it more."""
    house.fetcher.failures = [LinkDeadError("HTTP 404")]
    outcome = await house.picture()
    await house.shelf.flush()
    [render] = (await house.written()).renders

    assert () == outcome.delivered
    assert render.result is not None
    assert render.result.lost
    assert (COST, 0) == await house.money()
    assert [] == await seen_to_by(house.store)


async def test_a_picture_that_is_cut_off_is_asked_for_again(house: House) -> None:
    """Somebody was still writing it: the whole one is what is delivered."""
    house.fetcher.cuts = [1]
    outcome = await house.picture()

    [delivered] = outcome.delivered
    assert delivered.result is not None
    assert delivered.result.stored is not None
    assert (3, [-1, 1]) == (delivered.result.stored.size_bytes, house.fetcher.beaten)
    assert 0 == house.pictures_cut


@pytest.mark.parametrize("later", [None, LinkDeadError("HTTP 404")])
async def test_a_picture_that_stays_cut_off_is_delivered_as_it_is(
    house: House, later: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paid for: the most that came of it is kept, told and counted, though links die."""
    monkeypatch.setattr(finishing, "CUT_TRIES", 4)
    house.fetcher.cuts = [1, 2, 1, 1, 1]
    if later is not None:
        house.fetcher.before_fetch = lambda: (
            house.fetcher.failures.append(later) if len(house.fetcher.fetched) == 4 else None
        )
    outcome = await house.picture()

    [delivered] = outcome.delivered
    assert delivered.result is not None
    assert delivered.result.stored is not None
    assert (2, 4) == (delivered.result.stored.size_bytes, len(house.fetcher.fetched))
    assert 1 == house.pictures_cut
    assert (COST, 0) == await house.money()


async def test_pictures_are_told_apart_in_the_store(house: House) -> None:
    """Each render has a key of its own, the same however often it is stored."""
    live = await house.admit(images=3)
    await house.poller.poll(3)
    outcome = await over(live)

    assert [f"design/task1/{index}" for index in range(3)] == [
        render.result.stored.key
        for render in outcome.delivered
        if render.result is not None and render.result.stored is not None
    ]


async def test_money_settles_before_the_picture_is_fetched(house: House) -> None:
    """A crash between the two costs a copy, never money: the points come in this order."""
    await house.picture()

    assert ["finished", "concluded", "stored"] == house.points[-3:]


async def test_a_task_whose_offer_is_gone_is_settled_by_its_hold(store: Store) -> None:
    """Without its price list nobody knows what credits are worth: the estimate is booked."""
    async with open_house(store, offer=None) as house:
        await over(await house.adopt(RenderState.SUBMITTED))

        assert (HOLD, 0) == await house.money()


async def test_nothing_is_learned_from_a_task_of_another(house: House) -> None:
    """The outage in which nobody looked is no latency of the upstream (rule 21)."""
    await over(await house.adopt(RenderState.SUBMITTED))
    await house.latencies.refresh()
    strangers = await keys_in(house.store, "latency*")
    await house.picture("task2")
    await house.latencies.refresh()

    assert (COST * 2, 0) == await house.money()
    assert ([], 1) == (strangers, len(await keys_in(house.store, "latency*")))


async def test_any_replica_makes_the_format_that_was_asked_for(store: Store) -> None:
    """Who takes a task over reads from its record what its picture is delivered as."""
    output = Output(PictureFormat.WEBP, 50)
    async with open_house(store) as house:
        left = await house.left_behind(RenderState.SUBMITTED, output=output)
        await over(await house.take(left))

    assert [output] == house.fetcher.outputs


async def test_in_a_new_class_a_few_go_ahead_and_the_others_wait_for_them(house: House) -> None:
    """The others are first asked about when it is known how long it takes, or by a callback."""
    first = await house.admit("task0")
    await until(lambda: len(house.poller.delays_s) == 1)
    while not house.latencies.holds_back(first.latency_class, lambda: None):
        continue
    for number in (1, 2):
        await house.admit(f"task{number}")
        await until(lambda: len(house.poller.delays_s) == number + 1)  # noqa: B023 - at once
    held_s = house.poller.delays_s
    house.engine.hear(replace(CALLED_BACK, task=TaskId("task2")))
    called_s = house.poller.delays_s
    for _ in range(PROVED_BY + 1):
        house.latencies.observe(first.latency_class, 5.0, 6.0)
    await house.latencies.refresh()
    told_s = house.poller.delays_s

    assert held_s[0] < 2.0
    assert [WAIT_MAX_S, WAIT_MAX_S] == pytest.approx(held_s[1:], abs=0.1)
    assert 0.0 == pytest.approx(called_s[2], abs=0.1)
    assert 3 == len(told_s)
    assert max(told_s) < 10.0


async def test_a_picture_is_passed_on_while_the_store_takes_none(store: Store) -> None:
    """Whoever waits has it from its link; it is stored as soon as there is room, and once."""
    async with open_house(store) as house:
        house.fetcher.failures = [AssetUnavailableError("no room")] * 3
        live = await house.admit()
        await house.poller.poll()
        await until(lambda: live.outcome.task.over)
        straight, still_running = live.outcome, live.task.id in house.engine.running
        stored = await over(live)

    assert still_running
    assert ([3], [3]) == (sizes_of(straight), sizes_of(stored))
    assert straight.task.over
    assert [LINK] == house.fetcher.opened
    assert 4 == len(house.fetcher.fetched)
    assert (COST, 0) == await house.money()


async def test_nothing_is_passed_on_from_a_link_that_does_not_work(store: Store) -> None:
    """The wait goes on: for the store, or for the link's end."""
    async with open_house(store) as house:
        house.fetcher.dead_links = True
        house.fetcher.failures = [AssetUnavailableError("no room")] * 2
        outcome = await house.picture()

    assert [3] == sizes_of(outcome)
    assert 2 == len(house.fetcher.opened)


def sizes_of(outcome: Outcome) -> list[int]:
    """Return the sizes of the pictures that can be had."""
    results = [render.result for render in outcome.delivered]
    return [result.stored.size_bytes for result in results if result and result.stored]


async def test_a_flat_price_is_booked_when_the_upstream_says_nothing(store: Store) -> None:
    """What was ordered is known, and so is its price: that is no estimate."""
    silent = replace(DONE, usage=None, credits_used=None)
    billing = CallBilling((CallTier(None, Fraction(7_000)),))
    flat = replace(OFFER, book=replace(OFFER.book, billing=billing))
    async with open_house(store, provider=ScriptedProvider(polls=[silent])) as house:
        ticket = await house.engine.admit(an_admission(team=TEAM, hold_microusd=HOLD), flat)
        await house.poller.poll()
        assert ticket.live is not None
        outcome = await over(ticket.live)

        assert [(7_000, ChargeBasis.PRICE)] == [
            (render.result.cost_microusd, render.result.basis)
            for render in outcome.delivered
            if render.result is not None
        ]
        assert (7_000, 0) == await house.money()


BARE = replace(DONE, usage=None, credits_used=None)


async def test_usage_that_is_told_later_corrects_what_was_estimated(store: Store) -> None:
    """The picture is delivered at once for the whole hold; it is asked again every five seconds."""
    provider = ScriptedProvider(polls=[BARE, BARE, DONE])
    correct = partial(_correct, RedisBooks(store))
    async with open_house(store, provider=provider, correct=correct) as house:
        outcome = await house.picture()
        estimated = await house.money()
        delays_s = await house.poller.poll()
        unchanged = await house.money()
        delays_s += await house.poller.poll()
        corrected = await house.money()

        assert (1, [5.0, 5.0]) == (len(outcome.delivered), delays_s)
        assert ((outcome.task.hold.amount_microusd, 0), estimated) == (estimated, unchanged)
        assert (COST, 0) == corrected
        assert [] == house.poller.delays_s


async def test_an_estimate_stands_when_its_usage_is_never_told(store: Store) -> None:
    """It is asked for thirty seconds, and then no more."""
    correct = partial(_correct, RedisBooks(store))
    async with open_house(store, provider=ScriptedProvider(polls=[BARE]), correct=correct) as house:
        outcome = await house.picture()
        delays_s = [delay_s for _ in range(6) for delay_s in await house.poller.poll()]

        assert [5.0] * 6 == delays_s
        assert [] == house.poller.delays_s
        assert (outcome.task.hold.amount_microusd, 0) == await house.money()
