from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import cast

import pytest

from gateway.domain.accounts import Caller, Team
from gateway.domain.catalog import Catalog, Model, Offer
from gateway.domain.errors import (
    BadReference,
    CostLimitExceeded,
    DailyQuotaExceeded,
    GatewayError,
    InternalError,
    InvalidRequest,
    ModelNotAllowed,
    ModerationBlocked,
    RateLimited,
    ShuttingDown,
    StillRunning,
    SubmitUnknown,
    UnsupportedImage,
    UpstreamFailed,
    UpstreamUnavailable,
)
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import ImageRequest, Operation, Picture, Size
from gateway.domain.limits import Quotas
from gateway.domain.pricing import configured
from gateway.domain.task import FailureKind, Render, RenderState, SubmitOrder
from gateway.ledger.holds import user_hash
from gateway.network.guard import Guard
from gateway.providers.interface import Provider
from gateway.service.images import ImageService, Plan, end_user_of, error_of, is_final
from gateway.tasks.engine import Engine, Ticket
from gateway.tasks.interface import Admission, Call, TaskStore
from gateway.tasks.live import LiveTask, Outcome
from gateway.tasks.waiting import Waiting
from tests.support.clock import FixedClock, LoopClock, in_virtual_time
from tests.support.factories import (
    EVOLINK_PRICES,
    LANDSCAPE,
    PORTRAIT,
    SQUARE,
    a_book,
    a_budget,
    a_call,
    a_caller,
    a_live_task,
    a_model,
    a_picture,
    a_picture_in_store,
    a_render,
    a_result,
    a_task,
    a_team,
    a_token_billing,
    an_offer,
    an_outcome,
    an_unpriced_book,
)

MODEL = a_model()


def _service(
    *models: Model, engine: ScriptedEngine | None = None, waiting: Waiting | None = None
) -> ImageService:
    return ImageService(
        catalog=Catalog({model.name: model for model in models or (MODEL,)}),
        providers={"evolink": cast("Provider", Composer())},
        engine=cast("Engine", engine),
        waiting=cast("Waiting", waiting),
        guard=Guard(lookup=_looked_up),
        wait_s=280.0,
        clock=FixedClock(),
        random_bytes=lambda count: b"\xab" * count,
    )


async def _looked_up(name: str) -> list[str]:
    """Tell where names are: inside is where nobody outside may look."""
    return ["127.0.0.1"] if name.startswith("inside.") else ["93.184.216.34"]


class Composer:
    """A provider as far as it is asked here."""

    def compose(self, offer: Offer, picture: Picture) -> SubmitOrder:
        """Write the order down as it was asked for."""
        return SubmitOrder(
            provider="evolink",
            account="evolink",
            body={
                "model": offer.upstream_model,
                "prompt": picture.prompt,
                "size": str(picture.size),
            },
        )


def _request(*, model: str = MODEL.name, size: str = "auto", quality: str = "low") -> ImageRequest:
    return ImageRequest(model=model, prompt="cats", size=size, quality=quality)


def _plan(request: ImageRequest, *, team: Team | None = None, model: Model = MODEL) -> Plan:
    return _service(model).plan(a_caller(team), request)


def test_plan() -> None:
    """A plan has the model, the offer, the picture and the most it can cost."""
    plan = _plan(_request(size="1024x1536"))

    assert plan == Plan(
        model=MODEL,
        offer=MODEL.offers[0],
        picture=a_picture(prompt="cats", size=PORTRAIT, quality="low"),
        quote=plan.quote,
    )
    # 408 x 28.8 and four bytes at 4.5.
    assert plan.quote.total_microusd == 11_769


@pytest.mark.parametrize(
    ("asked", "teams", "size"),
    [
        ("1536x1024", "1024x1536", LANDSCAPE),
        ("1536x1024", None, LANDSCAPE),
        ("auto", "1024x1536", PORTRAIT),
        ("auto", None, SQUARE),
    ],
)
def test_size_auto(asked: str, teams: str | None, size: Size) -> None:
    """`auto` is the team's default, else the model's; what the client names wins."""
    assert size == _plan(_request(size=asked), team=a_team(default_size=teams)).picture.size


@pytest.mark.parametrize(
    ("asked", "teams", "quality"),
    [
        ("high", "low", "high"),
        ("high", None, "high"),
        ("auto", "low", "low"),
        ("auto", None, "medium"),
    ],
)
def test_quality_auto(asked: str, teams: str | None, quality: str) -> None:
    """`auto` is the team's default, else the model's; what the client names wins."""
    team = a_team(default_quality=teams)

    assert quality == _plan(_request(quality=asked), team=team).picture.quality


def test_unknown_model() -> None:
    """A model that does not exist has OpenAI's text."""
    with pytest.raises(UnsupportedImage) as refusal:
        _plan(_request(model="foo"))

    error = refusal.value
    assert (
        *(error.message, error.param),
        error.code,
    ) == ("The model 'foo' does not exist.", "model", "invalid_value")


def test_model_of_other_teams() -> None:
    """A team may use what its globs match and nothing else, whatever it would cost."""
    with pytest.raises(ModelNotAllowed) as refusal:
        _plan(_request(), team=a_team(models=("dall-e-*",)))

    assert refusal.value.model == "gpt-image-1.5"


@pytest.mark.parametrize(
    ("offers", "message", "code"),
    [
        (
            (an_offer(book=an_unpriced_book()),),
            (
                "There is no price for 'gpt-image-1.5' at size 1024x1024 and quality 'low',"
                " so it is not made here."
            ),
            "unpriced",
        ),
        (
            (an_offer(operation=Operation.EDIT),),
            (
                "The model 'gpt-image-1.5' does not make such a picture here: generation at size"
                " 1024x1024, quality 'low', background 'auto', 0 references."
            ),
            "invalid_value",
        ),
    ],
)
def test_what_nobody_makes_or_has_a_price_for(
    offers: tuple[Offer, ...], message: str, code: str
) -> None:
    """It is refused, rather than made for an unknown amount."""
    with pytest.raises(InvalidRequest) as refusal:
        _plan(_request(), model=a_model(offers=offers))

    error = refusal.value
    assert (message, None, code) == (error.message, error.param, error.code)


@pytest.mark.parametrize(
    ("retires", "soon"),
    [
        (date(2026, 12, 7), True),
        (date(2026, 12, 8), False),
        (date(2026, 11, 24), True),
        (None, False),
    ],
)
def test_models_that_are_gone_within_two_weeks(retires: date | None, soon: bool) -> None:
    """On 2026-11-23, callers of a model that ends by 2026-12-07 are warned."""
    model = a_model(offers=(an_offer(retires=retires),))

    assert soon is _service(model).ends_soon(model)


def test_a_model_that_is_gone_is_no_model() -> None:
    """Its offers have ended, today being the day."""
    model = a_model(offers=(an_offer(retires=date(2026, 11, 23)),))

    with pytest.raises(UnsupportedImage, match="does not exist"):
        _plan(_request(), model=model)
    assert () == _service(model).models_for(a_team())


def test_unpriced_at_a_configured_amount() -> None:
    """Where an operator has set an amount, that is held for a call without a price."""
    model = a_model(offers=(an_offer(book=an_unpriced_book()),), unpriced_hold_microusd=90_000)
    plan = _plan(_request(), model=model)

    assert (model.offers[0], configured(90_000)) == (plan.offer, plan.quote)


def test_the_cheapest_offer_is_chosen() -> None:
    """Of the offers with a price the cheapest is taken, and the first of equals."""
    dear = an_offer(book=a_book(thinking_tokens=1))
    cheap, equal = an_offer(provider="cheap"), an_offer(provider="equal")
    unpriced = an_offer(book=an_unpriced_book())
    free = a_token_billing(prices=replace(EVOLINK_PRICES, image_output=Fraction(0)))
    free_edit = an_offer(operation=Operation.EDIT, book=a_book(billing=free))
    plan = _plan(_request(), model=a_model(offers=(unpriced, free_edit, dear, cheap, equal)))

    assert plan.offer is cheap
    assert plan.quote.total_microusd == 7852


def test_models_of_a_team() -> None:
    """A team sees what it may use, by name; the catalogue itself knows all."""
    service = _service(a_model("gpt-image-2"), a_model("z-image"), a_model("gpt-image-1"))
    names = [model.name for model in service.models_for(a_team())]

    assert names == ["gpt-image-1", "gpt-image-2"]
    assert (service.find_model("z-image"), service.find_model("nope")) == (a_model("z-image"), None)


@pytest.mark.parametrize(("name", "found"), [("gpt-image-2", True), ("z", False), ("no", False)])
def test_one_model_of_a_team(name: str, found: bool) -> None:
    """A model is found when it exists and the team may use it."""
    service = _service(a_model("gpt-image-2"), a_model("z"))

    assert found is (service.model_for(a_team(), name) is not None)


class ScriptedEngine:
    """Admits a task, after refusing as often as it is told to; writes down what it is told."""

    def __init__(self, *refusals: GatewayError) -> None:
        self.refusals = list(refusals)
        self.admitted: list[tuple[Admission, Offer]] = []
        self.told: list[tuple[str, object]] = []

    async def admit(self, admission: Admission, offer: Offer) -> Ticket:
        """Refuse once for each refusal, then admit."""
        self.admitted.append((admission, offer))
        if self.refusals:
            raise self.refusals.pop(0)
        return TICKET

    async def leave(self, ticket: Ticket) -> None:
        """Write it down."""
        self.told.append(("leave", ticket))

    def delivered(self, ticket: Ticket) -> None:
        """Write it down."""
        self.told.append(("delivered", ticket))

    def expect_retry(self, team: TeamId, call: Call) -> None:
        """Write it down."""
        self.told.append(("expect_retry", (team, call)))


CALL = a_call()
TASK = a_task()
TICKET = Ticket(TASK.team, TASK.id, "req_1", place="f", joined=False, live=None)


async def _start(
    engine: ScriptedEngine, request: ImageRequest, *, caller: Caller | None = None
) -> Ticket:
    service, caller = _service(engine=engine), caller or a_caller()
    return await service.start(caller, request, service.plan(caller, request), CALL)


async def test_start_holds_the_quote() -> None:
    """What is held is the quote of each image; what is journaled is the very order that is sent."""
    engine = ScriptedEngine()
    ticket = await _start(engine, replace(_request(), n=3))

    assert TICKET is ticket
    assert [
        (
            Admission(
                id=TaskId("imgtask_" + "ab" * 16),
                caller=a_caller(),
                user="",
                images=3,
                model="gpt-image-1.5",
                operation=Operation.GENERATION,
                size="1024x1024",
                quality="low",
                hold_microusd=7852,
                order=SubmitOrder(
                    provider="evolink",
                    account="evolink",
                    body={"model": "gpt-image-1.5", "prompt": "cats", "size": "1024x1024"},
                ),
                call=CALL,
                patience_ms=0,
            ),
            MODEL.offers[0],
        )
    ] == engine.admitted


@pytest.mark.parametrize(
    ("most_microusd", "teams_microusd", "param"),
    [(15_703, None, "max_cost_usd"), (None, 15_703, None), (15_703, 20_000, "max_cost_usd")],
)
async def test_a_call_may_cost_what_it_may(
    most_microusd: int | None, teams_microusd: int | None, param: str | None
) -> None:
    """Two pictures of 7852 are refused below their sum, by the call's own limit or the team's."""
    engine = ScriptedEngine()
    request = replace(_request(), n=2, max_cost_microusd=most_microusd)
    caller = a_caller(replace(a_team(), per_call_microusd=teams_microusd))
    with pytest.raises(CostLimitExceeded) as refusal:
        await _start(engine, request, caller=caller)
    await _start(engine, replace(request, n=1), caller=caller)

    assert param == refusal.value.param
    assert "up to $0.015704, more than the $0.015703" in refusal.value.message
    assert [1] == [admission.images for admission, _ in engine.admitted]


@pytest.mark.parametrize(
    ("request_", "user_budgets", "user"),
    [
        (ImageRequest("m", "p", user="kim"), True, user_hash(TeamId("design"), "kim")),
        (
            ImageRequest("m", "p", user="kim", safety_identifier="kit"),
            *(True, user_hash(TeamId("design"), "kit")),
        ),
        (ImageRequest("m", "p", user="kim"), False, ""),
        (ImageRequest("m", "p"), True, ""),
    ],
)
def test_end_users(request_: ImageRequest, user_budgets: bool, user: str) -> None:
    """An end user is known by a hash, and only where end users have budgets."""
    team = replace(a_team(), user_budgets=(a_budget(),) if user_budgets else ())

    assert user == end_user_of(a_caller(team), request_)


async def test_who_is_told_of_the_end_is_checked_before_anything_is_held() -> None:
    """A callback is sent into the public Internet and to nobody inside; nothing is held for it."""
    engine = ScriptedEngine()
    outside = replace(_request(), callback_url="https://client.example/done")
    await _start(engine, outside)
    with pytest.raises(InvalidRequest) as refusal:
        await _start(engine, replace(outside, callback_url="https://inside.example/done"))

    assert "callback_url" == refusal.value.param
    assert ["https://client.example/done"] == [
        admission.callback_url for admission, _ in engine.admitted
    ]


def _too_fast(wait_ms: int) -> RateLimited:
    return RateLimited(resource="requests", limit=60, retry_after_ms=wait_ms)


def _patient(queue_ms: int) -> Caller:
    return a_caller(replace(a_team(), quotas=Quotas(queue_ms=queue_ms)))


def test_a_call_above_a_quota_waits_for_its_turn() -> None:
    """It waits as long as it is told and asks again as the same call, with less patience left."""

    async def scenario() -> tuple[list[int], set[TaskId], float]:
        engine = ScriptedEngine(_too_fast(1_500), _too_fast(500))
        await _start(engine, _request(), caller=_patient(2_000))
        return (
            [admission.patience_ms for admission, _ in engine.admitted],
            {admission.id for admission, _ in engine.admitted},
            asyncio.get_running_loop().time(),
        )

    patience, ids, took_s = in_virtual_time(scenario())

    assert [2_000, 500, 0] == patience
    assert 1 == len(ids)
    assert 2.0 == pytest.approx(took_s)


@pytest.mark.parametrize("queue_ms", [0, 1_499])
def test_a_call_does_not_wait_longer_than_its_team_says(queue_ms: int) -> None:
    """What would not fit in time is told at once: nobody waits in vain."""

    async def scenario() -> float:
        with pytest.raises(RateLimited):
            await _start(ScriptedEngine(_too_fast(1_500)), _request(), caller=_patient(queue_ms))
        return asyncio.get_running_loop().time()

    assert 0.0 == in_virtual_time(scenario())


async def test_a_refusal_that_time_does_not_mend_is_not_waited_for() -> None:
    """Only what comes too fast waits."""
    engine = ScriptedEngine(DailyQuotaExceeded(limit=1, used=1, resets_at_ms=0))
    with pytest.raises(DailyQuotaExceeded):
        await _start(engine, _request(), caller=_patient(60_000))

    assert 1 == len(engine.admitted)


async def test_the_engine_is_told_how_a_call_ended() -> None:
    """That an answer left, that nobody waits any more, that a retry is a call of its own."""
    engine = ScriptedEngine()
    service = _service(engine=engine)
    service.delivered(TICKET)
    await service.leave(TICKET)
    service.turned_away(a_caller(), CALL)

    assert engine.told == [
        ("delivered", TICKET),
        ("leave", TICKET),
        ("expect_retry", (TeamId("design"), CALL)),
    ]


def _running(live: LiveTask) -> ImageService:
    """Build a service that waits for one running task; nothing is read from a store."""
    running = {live.task.id: live}
    return _service(
        waiting=Waiting(cast("TaskStore", None), running, LoopClock(), deadline_s=600.0)
    )


def _picture(index: int = 0) -> Render:
    stored = a_picture_in_store(index)
    return a_render(index, state=RenderState.COMPLETED, result=a_result(stored=stored))


def _failure(
    failure: FailureKind, index: int = 0, *, submitted: bool = False, cost_microusd: int = 0
) -> Render:
    return a_render(
        index,
        state=RenderState.FAILED,
        upstream_id=None if submitted else "",
        result=a_result(failure=failure, cost_microusd=cost_microusd),
    )


@pytest.mark.parametrize(
    "renders",
    [(_picture(),), (_failure(FailureKind.MODERATION), _picture(1))],
    ids=["whole", "partial"],
)
def test_finish_returns_what_there_is(renders: tuple[Render, ...]) -> None:
    """A task that is over ends the wait; one picture is enough for an answer."""

    async def scenario() -> Outcome:
        live = a_live_task(a_task(*renders))
        asyncio.get_running_loop().call_later(279, live.resolve)
        return await _running(live).finish(TICKET)

    assert an_outcome(*renders) == in_virtual_time(scenario())


def test_finish_raises_what_the_failure_stands_for() -> None:
    """A task without a single picture ends the wait with its error."""

    async def scenario() -> None:
        live = a_live_task(a_task(_failure(FailureKind.MODERATION)))
        live.resolve()
        with pytest.raises(ModerationBlocked):
            await _running(live).finish(TICKET)

    in_virtual_time(scenario())


def test_finish_waits_as_long_as_one_call_may() -> None:
    """When the wait is over the picture is still being made, and that is what is said."""

    async def scenario() -> float:
        with pytest.raises(StillRunning):
            await _running(a_live_task()).finish(TICKET)
        return asyncio.get_running_loop().time()

    assert in_virtual_time(scenario()) == pytest.approx(280)


def _ended(
    failure: FailureKind, *, submitted: bool = False, retry_after_s: float | None = None
) -> Outcome:
    task = a_task(_failure(failure, submitted=submitted))
    return Outcome(task, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("failure", "before", "after"),
    [
        # Reasons of the moment: nothing was created, or the task failed after all.
        (FailureKind.AUTH, UpstreamUnavailable, UpstreamFailed),
        (FailureKind.INSUFFICIENT_FUNDS, UpstreamUnavailable, UpstreamFailed),
        (FailureKind.RATE_LIMITED, UpstreamUnavailable, UpstreamFailed),
        (FailureKind.UPSTREAM_DOWN, UpstreamUnavailable, UpstreamFailed),
        # Reasons of the request are told the same at submit and as a failed task.
        (FailureKind.MODERATION, ModerationBlocked, ModerationBlocked),
        (FailureKind.INVALID_REQUEST, InvalidRequest, InvalidRequest),
        (FailureKind.PROMPT_TOO_LONG, InvalidRequest, InvalidRequest),
        (FailureKind.BAD_REFERENCE, BadReference, BadReference),
        (FailureKind.SUBMIT_UNKNOWN, SubmitUnknown, SubmitUnknown),
        (FailureKind.DEADLINE, StillRunning, StillRunning),
        (FailureKind.WITHDRAWN, StillRunning, StillRunning),
        (FailureKind.GENERATION_FAILED, UpstreamFailed, UpstreamFailed),
        (FailureKind.CANCELLED, UpstreamFailed, UpstreamFailed),
        (FailureKind.RESULT_LOST, UpstreamFailed, UpstreamFailed),
    ],
)
def test_error_of(
    failure: FailureKind, before: type[GatewayError], after: type[GatewayError]
) -> None:
    """Each failure is told as what a caller can do about it."""
    rejected, failed = error_of(_ended(failure)), error_of(_ended(failure, submitted=True))

    assert (before, after) == (type(rejected), type(failed))


def test_every_failure_has_a_row_here() -> None:
    """A failure that is added is thought about: the table above names them all."""
    (table,) = test_error_of.pytestmark  # type: ignore[attr-defined]

    assert set(FailureKind) == {row[0] for row in table.args[1]}


def test_a_lost_picture_is_a_failure() -> None:
    """A render that was paid for and cannot be fetched has no failure of its own."""
    lost = a_render(state=RenderState.COMPLETED, result=a_result(lost=True))

    assert isinstance(error_of(an_outcome(lost)), UpstreamFailed)


@pytest.mark.parametrize(
    ("renders", "error"),
    [
        # What was charged says more than what was only submitted, and that more than the rest.
        (
            (
                _failure(FailureKind.UPSTREAM_DOWN, 0),
                _failure(FailureKind.MODERATION, 1, submitted=True),
                _failure(FailureKind.SUBMIT_UNKNOWN, 2, cost_microusd=7852),
            ),
            SubmitUnknown,
        ),
        (
            (
                _failure(FailureKind.UPSTREAM_DOWN, 0),
                _failure(FailureKind.MODERATION, 1, submitted=True),
            ),
            ModerationBlocked,
        ),
        (
            (
                _failure(FailureKind.MODERATION, 0, submitted=True),
                _failure(FailureKind.GENERATION_FAILED, 1, submitted=True, cost_microusd=1),
            ),
            UpstreamFailed,
        ),
    ],
)
def test_of_several_failures_the_weightiest_is_told(
    renders: tuple[Render, ...], error: type[GatewayError]
) -> None:
    """A call has one answer, in whatever order its renders failed."""
    told = {type(error_of(an_outcome(*order))) for order in (renders, renders[::-1])}

    assert {error} == told


@pytest.mark.parametrize(
    ("asked_s", "told_s"),
    [(None, 10), (1.0, 1), (0.2, 1), (60.0, 60), (61.0, 60), (7200.0, 60)],
)
def test_retry_after(asked_s: float | None, told_s: int) -> None:
    """SDKs wait for whole seconds, at least one and at most sixty; ten when nothing was said."""
    error = error_of(_ended(FailureKind.RATE_LIMITED, retry_after_s=asked_s))

    assert isinstance(error, UpstreamUnavailable)
    assert told_s == error.retry_after_s


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            FailureKind.INVALID_REQUEST,
            "The image service did not accept these parameters.",
        ),
        (
            FailureKind.DEADLINE,
            "The picture waited too long for its turn; nothing was charged.",
        ),
        (
            FailureKind.WITHDRAWN,
            "The picture was withdrawn before it was ordered; nothing was charged.",
        ),
    ],
)
def test_messages_of_our_own(failure: FailureKind, message: str) -> None:
    """What upstreams write is never passed on; our own words say what happened."""
    assert message == error_of(_ended(failure)).message


def test_parameters_the_upstream_refused_have_a_code() -> None:
    """A refusal that nobody can place has no param."""
    error = error_of(_ended(FailureKind.INVALID_REQUEST))

    assert isinstance(error, InvalidRequest)
    assert (error.param, error.code) == (None, "invalid_value")


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (ModerationBlocked(), True),
        (UpstreamFailed(), True),
        (StillRunning(), False),
        (SubmitUnknown(), False),
        (UpstreamUnavailable(), False),
        (ShuttingDown(), False),
        (InternalError(), False),
    ],
)
def test_what_is_final(error: GatewayError, final: bool) -> None:
    """An answer is for its call alone; whatever may still come is for whoever calls next."""
    assert final == is_final(error)
