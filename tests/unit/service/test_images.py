import asyncio
from dataclasses import replace
from fractions import Fraction
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from gateway.background import Background
from gateway.domain.accounts import Team
from gateway.domain.catalog import Catalog, Model, Offer
from gateway.domain.errors import (
    BadReference,
    GatewayError,
    InvalidRequest,
    ModelNotAllowed,
    ModerationBlocked,
    StillRunning,
    SubmitUnknown,
    UnsupportedImage,
    UpstreamFailed,
    UpstreamUnavailable,
)
from gateway.domain.ids import TaskId
from gateway.domain.images import ImageRequest, Operation, Picture, Size
from gateway.domain.pricing import NO_CHARGE, configured
from gateway.domain.task import FailureKind, SubmitOrder, Task
from gateway.providers.interface import Provider
from gateway.service.images import ImageService, Plan, error_of
from gateway.tasks.accounting import Accounting
from gateway.tasks.engine import Chance, Engine, EngineSettings
from gateway.tasks.interface import Admission, Admitted, TaskStore
from gateway.tasks.live import Ended
from gateway.tasks.poller import Poller
from gateway.tasks.shelf import Shelf
from gateway.telemetry.metrics import Metrics
from tests.support.clock import LoopClock, in_virtual_time
from tests.support.factories import (
    EVOLINK_PRICES,
    LANDSCAPE,
    PORTRAIT,
    SQUARE,
    a_book,
    a_caller,
    a_delivery,
    a_live_task,
    a_model,
    a_picture,
    a_task,
    a_team,
    a_token_billing,
    an_offer,
    an_unpriced_book,
)

MODEL = a_model()


def _service(*models: Model, engine: Engine | None = None) -> ImageService:
    return ImageService(
        catalog=Catalog({model.name: model for model in models or (MODEL,)}),
        providers={"evolink": cast("Provider", Composer())},
        engine=cast("Engine", engine),
        wait_s=280.0,
        random_bytes=lambda count: b"\xab" * count,
    )


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
    ("offers", "message"),
    [
        (
            (an_offer(book=an_unpriced_book()),),
            (
                "There is no price for 'gpt-image-1.5' at size 1024x1024 and quality 'low',"
                " so it is not made here."
            ),
        ),
        (
            (an_offer(operation=Operation.EDIT),),
            (
                "There is no price for 'gpt-image-1.5' at size 1024x1024 and quality 'low',"
                " so it is not made here."
            ),
        ),
    ],
)
def test_unpriced(offers: tuple[Offer, ...], message: str) -> None:
    """A call without a price is refused, rather than made for an unknown amount."""
    with pytest.raises(InvalidRequest) as refusal:
        _plan(_request(), model=a_model(offers=offers))

    error = refusal.value
    assert (message, None, "unpriced") == (error.message, error.param, error.code)


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


class Journal:
    """A journal that admits one task and lets nobody begin it."""

    def __init__(self) -> None:
        self.admissions: list[Admission] = []

    async def admit(self, admission: Admission) -> Admitted:
        """Write down what was asked for."""
        self.admissions.append(admission)
        return Admitted(task=a_task(), budgets=(), rates=())

    async def begin_submit(self, task: Task, attempt_id: str) -> Task:
        """Never answer: nothing is submitted in these tests."""
        await asyncio.Event().wait()
        return task


def _engine(journal: Journal, background: Background) -> Engine:
    clock = LoopClock()
    store = cast("TaskStore", journal)
    return Engine(
        store=store,
        providers={"evolink": cast("Provider", Composer())},
        fetchers={},
        poller=Poller(clock, background, max_concurrent=1),
        shelf=Shelf(store),
        background=background,
        clock=clock,
        accounting=Accounting(Metrics(CollectorRegistry(), version="1")),
        settings=EngineSettings(deadline_s=600.0, abandon_after_s=86_400.0),
        chance=Chance(random_bytes=bytes, fraction=lambda: 0.0),
    )


def test_start_holds_the_quote() -> None:
    """What is held is the quote, and what is journaled is the very order that will be sent."""

    async def scenario() -> tuple[Admission, str]:
        journal = Journal()
        async with Background(grace_s=0.0) as background:
            service = _service(engine=_engine(journal, background))
            caller = a_caller()
            live = await service.start(caller, _request(), service.plan(caller, _request()))
        (admission,) = journal.admissions
        return admission, live.team_label

    assert in_virtual_time(scenario()) == (
        Admission(
            id=TaskId("imgtask_" + "ab" * 16),
            caller=a_caller(),
            user="",
            images=1,
            model="gpt-image-1.5",
            size="1024x1024",
            quality="low",
            hold_microusd=7852,
            order=SubmitOrder(
                provider="evolink",
                account="evolink",
                body={"model": "gpt-image-1.5", "prompt": "cats", "size": "1024x1024"},
            ),
        ),
        "design",
    )


def test_finish_returns_the_picture() -> None:
    """A task that delivers ends the wait with its picture."""

    async def scenario() -> None:
        live, delivered = a_live_task(), a_delivery()
        asyncio.get_running_loop().call_later(279, live.resolve, delivered)

        assert delivered is await _service().finish(live)

    in_virtual_time(scenario())


def test_finish_raises_what_the_failure_stands_for() -> None:
    """A task that failed ends the wait with its error."""

    async def scenario() -> None:
        live = a_live_task()
        live.resolve(_ended(FailureKind.MODERATION))
        with pytest.raises(ModerationBlocked):
            await _service().finish(live)

    in_virtual_time(scenario())


def test_finish_waits_as_long_as_one_call_may() -> None:
    """When the wait is over the picture is still being made, and that is what is said."""

    async def scenario() -> float:
        with pytest.raises(StillRunning):
            await _service().finish(a_live_task())
        return asyncio.get_running_loop().time()

    assert in_virtual_time(scenario()) == pytest.approx(280)


def _ended(
    failure: FailureKind, *, submitted: bool = False, retry_after_s: float | None = None
) -> Ended:
    return Ended(failure, NO_CHARGE, (), submitted=submitted, retry_after_s=retry_after_s)


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
        (FailureKind.BAD_REFERENCE, BadReference, BadReference),
        (FailureKind.SUBMIT_UNKNOWN, SubmitUnknown, SubmitUnknown),
        (FailureKind.DEADLINE, StillRunning, StillRunning),
        (FailureKind.GENERATION_FAILED, UpstreamFailed, UpstreamFailed),
        (FailureKind.CANCELLED, UpstreamFailed, UpstreamFailed),
        (FailureKind.RESULT_LOST, UpstreamFailed, UpstreamFailed),
    ],
)
def test_error_of(
    failure: FailureKind, before: type[GatewayError], after: type[GatewayError]
) -> None:
    """Each failure is told as what a caller can do about it (design §5.2)."""
    rejected, failed = error_of(_ended(failure)), error_of(_ended(failure, submitted=True))

    assert (before, after) == (type(rejected), type(failed))


def test_every_failure_has_a_row_here() -> None:
    """A failure that is added is thought about: the table above names them all."""
    (table,) = test_error_of.pytestmark  # type: ignore[attr-defined]

    assert set(FailureKind) == {row[0] for row in table.args[1]}


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
