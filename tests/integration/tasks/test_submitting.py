from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.domain.ids import TeamId
from gateway.domain.images import KeptReference, PictureFormat, References
from gateway.domain.task import FailureKind, Render, RenderState, SubmitOrder, Task
from gateway.providers.interface import (
    Accepted,
    Missing,
    NotSent,
    Rejected,
    SubmitOutcome,
    Unknown,
)
from gateway.store.client import Store
from gateway.tasks.interface import OwnershipLostError
from gateway.tasks.live import LiveTask
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.reference_links import NoLinkError
from gateway.tasks.submitting import BUSY_TRIES, POST_WITHIN_S, SUBMIT_TRIES, WORTH_WAITING_S
from gateway.tasks.wake import Kind, Message
from tests.support.engine import (
    COST,
    HOLD,
    OFFER,
    PATIENCE,
    TEAM,
    House,
    ScriptedLinks,
    ScriptedProvider,
    failures_of,
    open_house,
    over,
    over_when_stirred,
    until,
)
from tests.support.factories import an_admission
from tests.support.journal import LaterClock, a_journal, admitted

LOST_ANSWER = Unknown("no answer")
BLOCKED = Rejected(FailureKind.MODERATION, "content_filter")


def called_back(live: LiveTask, upstream_id: str = "up-9", *, render: int = 0) -> Message:
    """Return what is heard when the upstream calls back about a render."""
    return Message(Kind.CALLED_BACK, live.task.team, live.task.id, render, upstream_id)


async def address(task: Task, render: int) -> str:
    """Return where the upstream is to call back."""
    return f"https://gateway.example/{task.id}/{render}"


async def test_the_journal_says_submitting_while_the_post_is_on_its_way(house: House) -> None:
    """Whoever reads the record during the POST sees that it must not be posted again."""
    seen: list[Render] = []

    async def look() -> None:
        seen.extend((await house.written()).renders)

    house.provider.before_submit = look
    await house.picture()

    assert [(RenderState.SUBMITTING, house.provider.keys[0])] == [
        (render.state, render.attempt_id) for render in seen
    ]


async def test_every_step_is_written_down_before_the_next(house: House) -> None:
    """These are the points at which a crash is survived, in this order."""
    await house.admit()
    await house.until_in(RenderState.SUBMITTED)
    await until(lambda: "submitted" in house.points)

    assert ["asked", "admitted", "queued", "submitting", "posted", "submitted"] == house.points


async def test_each_render_is_posted_once_under_a_key_of_its_own(house: House) -> None:
    """Three pictures are three orders of the same body."""
    live = await house.admit(images=3)
    written = await house.until_in(*3 * [RenderState.SUBMITTED])

    assert 3 == len(set(house.provider.keys)) == len(house.provider.keys)
    assert 3 * [live.task.order] == house.provider.orders
    assert {"up-1", "up-2", "up-3"} == {render.upstream_id for render in written.renders}


async def test_not_sent_is_tried_again_under_a_new_key(house: House) -> None:
    """A proven non-connection is repeated; the upstream hears of one submission."""
    house.provider.submits = [NotSent("refused"), Accepted("up-1")]
    outcome = await house.picture()

    assert 1 == len(outcome.delivered)
    assert 2 == len(set(house.provider.keys)) == len(house.provider.keys)


class SlowToBegin(RedisTaskStore):
    """A store that takes longer to say yes for the first time than a turn lasts."""

    slow = True

    async def begin_submit(
        self, task: Task, render: Render, attempt_id: str, urls: Sequence[str] = ()
    ) -> Render:
        """Win, and let the time pass."""
        won = await super().begin_submit(task, render, attempt_id, urls)
        if self.slow and isinstance(self._clock, LaterClock):
            self._clock.advance(POST_WITHIN_S + 0.1)
            self.slow = False
        return won


async def test_a_submit_that_won_its_turn_too_long_ago_is_not_posted(store: Store) -> None:
    """When the store took longer than five seconds to say yes, the attempt is given back."""
    async with open_house(store, journal=SlowToBegin) as house:
        outcome = await house.picture()
        [render] = outcome.delivered

        assert [render.attempt_id] == house.provider.keys
        assert 2 == render.tries


@pytest.mark.parametrize(
    ("submit", "failure", "spent", "tries"),
    [
        (NotSent("refused"), FailureKind.UPSTREAM_DOWN, 0, SUBMIT_TRIES),
        (BLOCKED, FailureKind.MODERATION, 0, 1),
        (Rejected(FailureKind.AUTH, "key", 7.0), FailureKind.AUTH, 0, 1),
        (
            Rejected(FailureKind.RATE_LIMITED, "slow", WORTH_WAITING_S + 1.0),
            *(FailureKind.RATE_LIMITED, 0, 1),
        ),
        (LOST_ANSWER, FailureKind.SUBMIT_UNKNOWN, HOLD, 1),
    ],
)
async def test_submits_that_bring_no_task(
    house: House, submit: SubmitOutcome, failure: FailureKind, spent: int, tries: int
) -> None:
    """What was not created costs nothing; what nobody knows costs the hold and is not repeated."""
    house.provider.submits = [submit]
    outcome = await over(await house.admit())

    assert [failure] == failures_of(outcome)
    assert [""] == [render.upstream_id for render in outcome.task.renders]
    assert (spent, 0) == await house.money()
    assert tries == len(house.provider.keys)
    assert spent / 1e6 == house.sample("possible_charge_usd_total", provider="evolink")
    assert getattr(submit, "retry_after_s", None) == outcome.retry_after_s


async def test_a_busy_upstream_is_tried_again_when_it_may_be(house: House) -> None:
    """A refusal for being too many is no failure of the picture: it is sent back and waits."""
    house.provider.submits = [Rejected(FailureKind.RATE_LIMITED, "slow", 0.1), Accepted("up-1")]
    outcome = await house.picture()

    assert 1 == len(outcome.delivered)
    assert 2 == len(set(house.provider.keys))
    assert 1 < BUSY_TRIES


async def test_one_of_three_is_refused(house: House) -> None:
    """The others are made; only they are paid for."""
    house.provider.submits = [Accepted("up-1"), BLOCKED, Accepted("up-3")]
    live = await house.admit(images=3)
    await house.poller.poll(2)
    outcome = await over(live)

    assert 1 == failures_of(outcome).count(FailureKind.MODERATION)
    assert (2, 2 * COST) == (len(outcome.delivered), outcome.cost_microusd)
    assert (2 * COST, 0) == await house.money()


async def test_what_nobody_knows_counts_beside_what_was_made(house: House) -> None:
    """A render of three whose answer was lost is booked as charged; the others at their cost."""
    house.provider.submits = [Accepted("up-1"), LOST_ANSWER, Accepted("up-3")]
    live = await house.admit(images=3)
    await house.poller.poll(2)
    outcome = await over(live)

    assert 2 * COST + HOLD == outcome.cost_microusd
    assert (2 * COST + HOLD, 0) == await house.money()


async def test_deadline_ends_what_was_not_submitted(house: House) -> None:
    """A render that could not be sent within the deadline is released; one that was is followed."""

    async def ten_minutes() -> None:
        await house.later(PATIENCE.deadline_s / 2 + 1.0)

    house.provider.submits = [Accepted("up-1"), NotSent("refused")]
    house.provider.before_submit = ten_minutes
    live = await house.admit(images=2)
    await house.poller.poll()
    outcome = await over(live)

    assert 1 == failures_of(outcome).count(FailureKind.DEADLINE)
    assert (COST, 0) == await house.money()


async def test_nothing_is_submitted_while_our_place_is_uncertain(house: House) -> None:
    """Without a renewal for long somebody may be about to take over (rule 7)."""
    house.clock.advance(8.0)
    live = await house.admit()
    await asyncio.sleep(0.1)
    before = list(house.provider.keys)
    await house.replica.renew()
    await house.poller.poll()

    assert [] == before
    assert 1 == len((await over(live)).delivered)


async def test_an_account_takes_no_more_than_it_may(store: Store) -> None:
    """The second waits until the first has ended, and is submitted then."""
    async with open_house(store, max_in_flight=1) as house:
        live = await house.admit(images=2)
        await house.poller.poll()
        first = len(house.provider.keys)
        await house.poller.poll()
        outcome = await over(live)

        assert (1, 2) == (first, len(outcome.delivered))


async def test_a_cancelled_render_does_not_wait_for_its_turn(store: Store) -> None:
    """It leaves the queue at once and is released; what was submitted goes on."""
    async with open_house(store, max_in_flight=1) as house:
        live = await house.admit(images=2)
        await until(lambda: len(house.poller.delays_s) == 1)
        await house.engine.cancel(live.task.team, live.task.id)
        await until(lambda: any(one.render.settled for one in live.renders))
        await house.poller.poll()
        outcome = await over(live)

        assert [None, FailureKind.WITHDRAWN] == sorted(
            failures_of(outcome), key=lambda kind: kind is not None
        )
        assert (COST, 0) == await house.money()


async def test_news_let_nobody_through_before_their_turn(store: Store) -> None:
    """A callback about a render that is queued, late or forged, makes no room for it."""
    async with open_house(store, max_in_flight=1) as house:
        live = await house.admit(images=2)
        await until(lambda: len(house.poller.delays_s) == 1)
        for render in (0, 1):
            house.engine.hear(called_back(live, render=render))
        await asyncio.sleep(0.1)

        assert 1 == len(house.provider.keys)
        await house.poller.poll()
        await house.poller.poll()
        assert 2 == len((await over(live)).delivered)


async def test_a_render_that_was_cancelled_before_it_queued_does_not_queue(store: Store) -> None:
    """Whenever the cancellation comes, nobody waits for room that is not needed any more."""
    async with open_house(store, max_in_flight=1) as house:
        await house.admit("task1")
        await house.until_in(RenderState.SUBMITTED)
        house.clock.advance(8.0)
        live = await house.admit("task2")
        await house.engine.cancel(live.task.team, live.task.id)
        outcome = await over(live)

        assert [FailureKind.WITHDRAWN] == failures_of(outcome)


# What is perhaps ordered.


@pytest.fixture
def forgetful() -> ScriptedProvider:
    """Make an upstream whose first answer gets lost."""
    return ScriptedProvider(submits=[LOST_ANSWER])


async def test_a_callback_tells_what_became_of_a_render(
    store: Store, forgetful: ScriptedProvider
) -> None:
    """An id that the upstream names, and knows when it is asked, is the render's task."""
    async with open_house(store, provider=forgetful, callback_url=address) as house:
        live = await house.admit()
        await house.until_in(RenderState.UNKNOWN)
        house.engine.hear(called_back(live, "up-9"))
        await house.poller.poll()
        [render] = (await over(live)).delivered

        assert ("up-9", 1) == (render.upstream_id, len(forgetful.keys))
        assert ["up-9", "up-9"] == forgetful.polled
        assert (COST, 0) == await house.money()


async def test_a_callback_nobody_can_prove_is_not_believed(
    store: Store, forgetful: ScriptedProvider
) -> None:
    """An id that the upstream does not know says nothing: the render stays unknown."""
    forgetful.polls = [Missing()]
    async with open_house(store, provider=forgetful, callback_url=address) as house:
        live = await house.admit()
        await house.until_in(RenderState.UNKNOWN)
        house.engine.hear(called_back(live, "up-9"))
        await until(lambda: forgetful.polled == ["up-9"])
        await house.later(PATIENCE.unknown_s + 1.0)
        outcome = await over_when_stirred(live)

        assert ["up-9"] == forgetful.polled
        assert [FailureKind.SUBMIT_UNKNOWN] == failures_of(outcome)
        assert (HOLD, 0) == await house.money()


@pytest.mark.parametrize("taken_by", ["a callback", "a submit"])
async def test_the_task_of_another_render_is_not_taken(
    store: Store, forgetful: ScriptedProvider, taken_by: str
) -> None:
    """An upstream id belongs to one render, whether a callback or a submit's answer named it."""
    async with open_house(store, provider=forgetful, callback_url=address) as house:
        if taken_by == "a callback":
            await house.journal.claim("evolink:1", "up-1", "task0:0")
        else:
            forgetful.submits = [Accepted("up-1"), LOST_ANSWER]
            await house.admit("task0")
            await house.until_in(RenderState.SUBMITTED, task="task0")
        live = await house.admit()
        await house.until_in(RenderState.UNKNOWN)
        house.engine.hear(called_back(live, "up-1"))
        await until(lambda: forgetful.polled == ["up-1"])
        await house.later(PATIENCE.unknown_s + 1.0)
        outcome = await over_when_stirred(live)

        assert [FailureKind.SUBMIT_UNKNOWN] == failures_of(outcome)


async def test_where_keys_are_proven_the_same_order_is_sent_again(
    store: Store, forgetful: ScriptedProvider
) -> None:
    """The same body under the same key, to the letter: the upstream knows it for the same."""
    forgetful.submits, forgetful.proves_idempotency = [LOST_ANSWER, Accepted("up-1")], True
    async with open_house(store, provider=forgetful, callback_url=address) as house:
        outcome = await house.picture()

        assert 1 == len(outcome.delivered)
        assert (2, 1) == (len(forgetful.keys), len(set(forgetful.keys)))
        assert forgetful.orders[0] == forgetful.orders[1]
        assert "https://gateway.example/task1/0" == forgetful.orders[0].body["callback_url"]


@pytest.mark.parametrize(
    ("sent_by", "then"), [("evolink:1", "evolink:2"), ("evolink:2", "evolink:1")]
)
async def test_an_order_is_not_sent_again_by_another_key_of_the_account(
    store: Store, forgetful: ScriptedProvider, sent_by: str, then: str
) -> None:
    """What is known for the same by one key may be another order by the next: it stays unknown.

    Also where that is the key of the moment it was admitted in.
    """
    forgetful.submits, forgetful.proves_idempotency = [LOST_ANSWER, Accepted("up-1")], True
    forgetful.account = sent_by

    async def change_key() -> None:
        forgetful.account = then

    forgetful.before_submit = change_key
    async with open_house(store, provider=forgetful, callback_url=address) as house:
        live = await house.admit()
        # In memory: the journal knows it before its patience begins.
        await until(lambda: live.renders[0].render.state is RenderState.UNKNOWN)
        await house.later(PATIENCE.unknown_s + 1.0)
        outcome = await over_when_stirred(live)

        assert [FailureKind.SUBMIT_UNKNOWN] == failures_of(outcome)
        assert 1 == len(forgetful.keys)


async def test_an_order_is_sent_again_by_the_key_that_it_was_sent_by(
    store: Store, forgetful: ScriptedProvider
) -> None:
    """Whichever was in force when it was admitted."""
    forgetful.submits, forgetful.proves_idempotency = [LOST_ANSWER, Accepted("up-1")], True
    forgetful.account = "evolink:2"
    async with open_house(store, provider=forgetful) as house:
        outcome = await house.picture()

        assert 1 == len(outcome.delivered)
        assert (2, 1) == (len(forgetful.keys), len(set(forgetful.keys)))


async def test_what_another_process_posted_is_repeated_by_the_same_key_only(store: Store) -> None:
    """Whoever takes it over compares its key with that of the order."""
    provider = ScriptedProvider(proves_idempotency=True, account="evolink:2")
    async with open_house(store, provider=provider) as house:
        live = await house.adopt(RenderState.UNKNOWN)
        await house.later(PATIENCE.unknown_s + 1.0)
        outcome = await over_when_stirred(live)

        assert [FailureKind.SUBMIT_UNKNOWN] == failures_of(outcome)
        assert [] == provider.keys


@pytest.mark.parametrize("keeps_place", [True, False])
async def test_a_process_that_stood_still_asks_once_more(
    store: Store, forgetful: ScriptedProvider, *, keeps_place: bool
) -> None:
    """Time that passed while it asked is not held against an upstream that can still tell."""
    forgetful.submits = [LOST_ANSWER, LOST_ANSWER, Accepted("up-1")]
    forgetful.proves_idempotency = True
    async with open_house(store, provider=forgetful) as house:

        async def stand_still() -> None:
            if len(forgetful.keys) == 2:
                house.clock.advance(PATIENCE.unknown_s + 1.0)
                if keeps_place:
                    await house.replica.renew()

        forgetful.before_submit = stand_still
        live = await house.admit()
        await until(lambda: len(forgetful.keys) == 2)
        await house.replica.renew()
        live.renders[0].stir()
        await house.poller.poll()
        outcome = await over(live)

        assert 1 == len(outcome.delivered)
        assert (3, 1) == (len(forgetful.keys), len(set(forgetful.keys)))


async def test_patience_that_ends_without_a_place_ends_with_a_question(
    store: Store, forgetful: ScriptedProvider
) -> None:
    """Without its place it may not ask, so it waits for it before it gives a picture up."""
    forgetful.submits = [LOST_ANSWER, LOST_ANSWER, Accepted("up-1")]
    forgetful.proves_idempotency = True
    async with open_house(store, provider=forgetful) as house:
        live = await house.admit()
        await until(lambda: len(forgetful.keys) == 2)
        house.clock.advance(PATIENCE.unknown_s + 1.0)
        live.renders[0].stir()
        await asyncio.sleep(0.1)
        asked = len(forgetful.keys)
        await house.replica.renew()
        await house.poller.poll()
        outcome = await over(live)

        assert (2, 1) == (asked, len(outcome.delivered))


async def test_where_keys_are_not_proven_nothing_is_sent_again(house: House) -> None:
    """Nobody would ever tell what became of it: it is written off at once, not waited for."""
    house.provider.submits = [LOST_ANSWER, Accepted("up-1")]
    outcome = await over(await house.admit())

    assert [RenderState.UNKNOWN] == [render.state for render in outcome.task.renders]
    assert 1 == len(house.provider.keys)


async def test_a_fact_of_whoever_posted_it_is_followed(house: House) -> None:
    """A render that was taken over while it was posted: its former owner still learns its id."""
    task = await house.left_behind(RenderState.SUBMITTING)
    live = await house.take(task)
    with pytest.raises(OwnershipLostError):
        await a_journal(house.store).record_submitted(task, task.renders[0], "up-7")
    [made] = (await over_when_stirred(live)).delivered

    assert ("up-7", []) == (made.upstream_id, house.provider.keys)
    assert (COST, 0) == await house.money()


async def test_what_was_not_sent_after_all_is_sent_by_its_new_owner(house: House) -> None:
    """Its former owner tells that nothing left the house; only then it is posted again."""
    task = await house.left_behind(RenderState.SUBMITTING)
    live = await house.take(task)
    before = list(house.provider.keys)
    with pytest.raises(OwnershipLostError):
        await a_journal(house.store).record_not_sent(task, task.renders[0])
    live.renders[0].stir()
    await house.poller.poll()
    [made] = (await over(live)).delivered

    assert ([], 1, "up-1") == (before, len(house.provider.keys), made.upstream_id)
    assert (COST, 0) == await house.money()


async def test_what_its_new_owner_has_sent_is_never_not_sent(
    store: Store, forgetful: ScriptedProvider
) -> None:
    """A process that stood still tells that it sent nothing; who took over may have, in vain."""
    forgetful.submits, forgetful.proves_idempotency = [LOST_ANSWER, Accepted("up-1")], True
    async with open_house(store, provider=forgetful) as house:
        task = await house.left_behind(RenderState.SUBMITTING)
        live = await house.take(task)
        await until(lambda: len(forgetful.keys) == 1)
        with pytest.raises(OwnershipLostError):
            await a_journal(house.store).record_not_sent(task, task.renders[0])
        live.renders[0].stir()
        await until(lambda: len(forgetful.keys) == 2)
        await house.poller.poll()
        [made] = (await over(live)).delivered

        assert ("up-1", 1) == (made.upstream_id, len(set(forgetful.keys)))
        assert (COST, 0) == await house.money()


async def test_what_was_not_sent_is_heard_of_before_it_is_sent_again(
    store: Store, forgetful: ScriptedProvider
) -> None:
    """Its former owner was faster: the new one begins a try of its own, and loses nothing."""
    forgetful.submits, forgetful.proves_idempotency = [Accepted("up-1")], True
    async with open_house(store, provider=forgetful) as house:
        task = await house.left_behind(RenderState.SUBMITTING)
        taken = await house.journal.take(task.team, task.id, owner=task.owner)
        assert taken is not None
        with pytest.raises(OwnershipLostError):
            await a_journal(house.store).record_not_sent(task, task.renders[0])
        house.engine.adopt(taken)
        live = house.engine.running[task.id]
        await until(lambda: len(forgetful.keys) == 1)
        await house.poller.poll()
        [made] = (await over(live)).delivered

        assert "up-1" == made.upstream_id
        assert [task.renders[0].attempt_id] != forgetful.keys
        assert (COST, 0) == await house.money()


@pytest.mark.parametrize("state", [RenderState.SUBMITTING, RenderState.UNKNOWN])
async def test_what_nobody_tells_is_written_off_in_the_end(
    house: House, state: RenderState
) -> None:
    """A render whose poster died is waited for, never posted again, and booked as charged."""
    live = await house.adopt(state)
    await house.later(PATIENCE.unknown_s - 1.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await over_when_stirred(live)
    await house.later(2.0)
    outcome = await over_when_stirred(live)

    assert [FailureKind.SUBMIT_UNKNOWN] == failures_of(outcome)
    assert (HOLD, 0) == await house.money()
    assert [] == house.provider.keys


# What the upstream sets aside.


@pytest.mark.parametrize(
    ("credits_reserved", "held"),
    [
        (None, HOLD),
        (Fraction("0.6"), HOLD),
        (Fraction("0.816"), 12_000),
        (Fraction("2.72"), 4 * HOLD),
        # Four times the hold is believed, more is a mistake of theirs.
        (Fraction("2.721"), HOLD),
    ],
)
async def test_the_hold_follows_what_the_upstream_has_set_aside(
    house: House, credits_reserved: Fraction | None, held: int
) -> None:
    """Above the hold it is raised, whatever the budgets say; never lowered (rule 13)."""
    house.provider.submits = [Accepted("up-1", credits_reserved=credits_reserved)]
    live = await house.admit()
    await until(lambda: len(house.poller.delays_s) == 1)

    assert (0, held) == await house.money()
    assert held == live.renders[0].held_microusd


async def test_a_lost_render_costs_its_raised_hold(house: House) -> None:
    """What is possibly charged is what the upstream had set aside."""
    house.provider.submits = [Accepted("up-1", credits_reserved=Fraction("0.816"))]
    house.provider.polls = [Missing()]
    live = await house.admit()
    await until(lambda: len(house.poller.delays_s) == 1)
    await house.later(1_000.0)
    await house.poller.poll()
    await over(live)

    assert (12_000, 0) == await house.money()


@pytest.mark.parametrize("raised", [0, 1])
async def test_a_raised_hold_stays_its_renders_own(house: House, raised: int) -> None:
    """Whoever takes the task over knows what is held for each render, and books no other."""
    two_unknown = (RenderState.UNKNOWN, RenderState.UNKNOWN)
    former = a_journal(house.store, owner="replica_0")
    task = await house.left_behind(*two_unknown)
    await former.raise_hold(task, task.renders[raised], 2_000)
    live = await house.take(task)
    await house.later(PATIENCE.unknown_s + 1.0)
    outcome = await over_when_stirred(live)
    costs = [render.result.cost_microusd for render in outcome.task.renders if render.result]

    assert [HOLD + 2_000 * (index == raised) for index in (0, 1)] == costs


PICTURES = References((KeptReference("0a", PictureFormat.PNG, 3),) * 2)


async def edit(house: House) -> LiveTask:
    """Admit a call for one picture that is made from two."""
    admission = an_admission("task1", team=TEAM, hold_microusd=HOLD)
    order = replace(admission.order, references=PICTURES)
    ticket = await house.engine.admit(replace(admission, order=order, references=2), OFFER)
    assert ticket.live is not None
    return ticket.live


async def test_the_journal_has_the_links_before_the_post(house: House) -> None:
    """What is sent is what is written down, and it is there before anything leaves."""
    seen: list[Task] = []

    async def look() -> None:
        seen.append(await house.written())

    house.provider.before_submit = look
    live = await edit(house)
    await house.poller.poll()
    await over(live)

    [order] = house.provider.orders
    assert ["https://files/0", "https://files/1"] == order.body["image_urls"]
    [task] = seen
    assert (("https://files/0", "https://files/1"), PICTURES) == (
        task.renders[0].urls,
        task.order.references,
    )
    assert ["asked", "admitted", "uploaded", "queued", "submitting"] == house.points[:5]
    # Links are capabilities: the record of what is over has none.
    written = await house.written()
    assert ((), References()) == (written.renders[0].urls, written.order.references)
    # What was kept for it is known until it is deleted.
    assert PICTURES.kept == written.brought.pictures


async def test_what_an_order_was_made_from_goes_with_its_end(store: Store) -> None:
    """Once nothing of it will be submitted any more; and not before, nor of other orders."""
    links = ScriptedLinks()
    async with open_house(store, references=links) as house:
        live = await edit(house)
        await house.until_in(RenderState.SUBMITTED)
        before = list(links.dropped)
        await house.poller.poll()
        await over(live)
        await until(lambda: bool(links.dropped))

        assert ([], [References(PICTURES.kept)]) == (before, links.dropped)


async def test_a_replica_that_died_before_it_submitted_costs_nothing(store: Store) -> None:
    """Whoever takes its task over finds links by itself, and submits once."""
    async with open_house(store) as house:
        dead = a_journal(store, owner="replica_0", clock=house.clock)
        admission = an_admission("task1", team=TEAM, hold_microusd=HOLD)
        order = replace(admission.order, references=PICTURES)
        left = (await admitted(dead, replace(admission, order=order, references=2))).task
        live = await house.take(left)
        await house.until_in(RenderState.SUBMITTED)
        await house.poller.poll()
        await over(live)

        assert 1 == len(house.provider.orders)
        assert 2 == len(house.provider.orders[0].body["image_urls"])  # type: ignore[arg-type]
        assert (COST, 0) == await house.money()


async def test_what_may_have_been_posted_is_sent_again_to_the_byte(store: Store) -> None:
    """Under its old key with its old links, also when there are others by now."""
    provider = ScriptedProvider(proves_idempotency=True)
    async with open_house(store, provider=provider) as house:
        dead = a_journal(store, owner="replica_0", clock=house.clock)
        admission = an_admission("task1", team=TEAM, hold_microusd=HOLD)
        order = replace(admission.order, references=PICTURES)
        left = (await admitted(dead, replace(admission, order=order, references=2))).task
        render = await dead.begin_submit(left, left.renders[0], "run_0", ("https://old/0",))
        await house.take(left.with_render(render))
        await house.until_in(RenderState.SUBMITTED)

        assert (["run_0"], ["https://old/0"]) == (
            provider.keys,
            provider.orders[0].body["image_urls"],
        )


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (FailureKind.UPSTREAM_DOWN, SUBMIT_TRIES),
        (FailureKind.AUTH, 1),
        (FailureKind.BAD_REFERENCE, 1),
    ],
)
async def test_references_that_cannot_be_brought_up(
    store: Store, kind: FailureKind, asked: int
) -> None:
    """Tried again where that may help; then it ends, and nothing was submitted or paid."""
    links = ScriptedLinks([NoLinkError(kind, "HTTP 1")] * asked)
    async with open_house(store, references=links) as house:
        outcome = await over(await edit(house))

        assert ([kind], asked, []) == (failures_of(outcome), links.asked, house.provider.keys)
        assert (0, 0) == await house.money()
        assert (1 if kind is FailureKind.BAD_REFERENCE else 0) == len(links.forgotten)


async def test_a_file_service_that_is_down_for_a_moment(store: Store) -> None:
    """The next try succeeds."""
    links = ScriptedLinks([NoLinkError(FailureKind.UPSTREAM_DOWN, "HTTP 503")])
    async with open_house(store, references=links) as house:
        await edit(house)
        await house.until_in(RenderState.SUBMITTED)

        assert (2, 1) == (links.asked, len(house.provider.keys))


async def test_references_that_take_longer_than_the_deadline(store: Store) -> None:
    """The task ends as one that waited too long, free of charge."""

    class Endless(ScriptedLinks):
        async def urls(self, team: TeamId, order: SubmitOrder) -> tuple[str, ...]:
            """Take for ever."""
            await asyncio.Event().wait()
            raise AssertionError(team, order)

    async with open_house(store, references=Endless()) as house:
        admission = an_admission("task1", team=TEAM, hold_microusd=HOLD)
        order = replace(admission.order, references=PICTURES)
        dead = a_journal(store, owner="replica_0", clock=house.clock)
        left = (await admitted(dead, replace(admission, order=order, references=2))).task
        house.clock.advance(PATIENCE.deadline_s - 0.2)
        outcome = await over(await house.take(left))

        assert [FailureKind.DEADLINE] == failures_of(outcome)
        assert (0, 0) == await house.money()
