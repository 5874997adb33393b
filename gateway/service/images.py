"""What the product does for one call: resolve, price, hold, hand over, wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.domain.accounts import Caller, Team
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
from gateway.domain.ids import ID_BYTES, make_task_id
from gateway.domain.images import ImageRequest, Operation, Picture, Size
from gateway.domain.pricing import Quote, quote
from gateway.domain.task import FailureKind
from gateway.providers.interface import Provider
from gateway.tasks.engine import Engine
from gateway.tasks.interface import Admission
from gateway.tasks.live import Delivered, Ended, LiveTask

#: What `retry-after` says when the upstream did not: seconds, and never more than SDKs honour.
RETRY_AFTER_S = 10
MAX_RETRY_AFTER_S = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """A call with nothing left to decide: what is made, by whom, for how much at the most."""

    model: Model
    offer: Offer
    picture: Picture
    quote: Quote


class ImageService:
    """Makes pictures for teams."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        providers: Mapping[str, Provider],
        engine: Engine,
        wait_s: float,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._catalog = catalog
        self._providers = providers
        self._engine = engine
        self._wait_s = wait_s
        self._random_bytes = random_bytes

    def models_for(self, team: Team) -> tuple[Model, ...]:
        """Return the models this team may use, by name."""
        return tuple(
            model for name, model in sorted(self._catalog.models.items()) if team.may_use(name)
        )

    def model_for(self, team: Team, name: str) -> Model | None:
        """Return one model if it exists and this team may use it."""
        model = self._catalog.get(name)
        return model if model is not None and team.may_use(name) else None

    def find_model(self, name: str) -> Model | None:
        """Return a model of the catalogue, whoever asks."""
        return self._catalog.get(name)

    def plan(self, caller: Caller, request: ImageRequest) -> Plan:
        """Resolve `auto`, choose the offer and price the call; nothing is held yet.

        Raises UnsupportedImage, ModelNotAllowed and InvalidRequest.
        """
        model = self._catalog.get(request.model)
        if model is None:
            raise UnsupportedImage(
                f"The model '{request.model}' does not exist.", param="model", code="invalid_value"
            )
        team = caller.team
        if not team.may_use(model.name):
            raise ModelNotAllowed(model.name)
        size = request.size if request.size != "auto" else team.default_size
        quality = request.quality if request.quality != "auto" else team.default_quality
        picture = Picture(
            operation=Operation.GENERATION,
            prompt=request.prompt,
            size=Size.parse(size) if size is not None else model.default_size,
            quality=quality if quality is not None else model.default_quality,
        )
        priced = [
            (price, offer)
            for offer in model.offers_for(picture.operation)
            if (price := quote(offer.book, picture)) is not None
        ]
        if not priced:
            raise InvalidRequest(
                f"There is no price for '{model.name}' at size {picture.size} and quality"
                f" '{picture.quality}', so it is not made here.",
                param=None,
                code="unpriced",
            )
        price, offer = min(priced, key=lambda pair: pair[0].total_microusd)
        return Plan(model=model, offer=offer, picture=picture, quote=price)

    async def start(self, caller: Caller, plan: Plan) -> LiveTask:
        """Hold the price and hand the task to the engine.

        Raises BudgetExceeded and StoreUnavailable; nothing was submitted then.
        """
        admission = Admission(
            id=make_task_id(self._random_bytes(ID_BYTES)),
            caller=caller,
            model=plan.model.name,
            size=str(plan.picture.size),
            quality=plan.picture.quality,
            hold_microusd=plan.quote.total_microusd,
            order=self._providers[plan.offer.provider].compose(plan.offer, plan.picture),
        )
        return await self._engine.admit(admission, plan.offer)

    async def finish(self, live: LiveTask) -> Delivered:
        """Wait for the picture, as long as one HTTP call may.

        Raises StillRunning when the wait ends first, and the error a failed task stands for.
        """
        outcome = await live.wait(self._wait_s)
        if isinstance(outcome, Delivered):
            return outcome
        raise error_of(outcome)


def error_of(ended: Ended) -> GatewayError:
    """Return what a caller is told about a task that ended without a picture."""
    if ended.failure in _NOTHING_CREATED and not ended.submitted:
        asked_s = ended.retry_after_s or RETRY_AFTER_S
        return UpstreamUnavailable(retry_after_s=min(max(int(asked_s), 1), MAX_RETRY_AFTER_S))
    return _TOLD.get(ended.failure, UpstreamFailed)()


#: Reasons that lie between the upstream and us: true of this moment, not of the request.
_NOTHING_CREATED = frozenset(
    {
        FailureKind.AUTH,
        FailureKind.INSUFFICIENT_FUNDS,
        FailureKind.RATE_LIMITED,
        FailureKind.UPSTREAM_DOWN,
    }
)

#: What the other reasons are told as; those that are missing are an upstream that failed.
_TOLD: dict[FailureKind, Callable[[], GatewayError]] = {
    FailureKind.MODERATION: ModerationBlocked,
    FailureKind.INVALID_REQUEST: lambda: InvalidRequest(
        "The image service did not accept these parameters.", param=None, code="invalid_value"
    ),
    FailureKind.BAD_REFERENCE: BadReference,
    FailureKind.SUBMIT_UNKNOWN: SubmitUnknown,
    FailureKind.DEADLINE: lambda: StillRunning(
        "The picture waited too long for its turn; nothing was charged."
    ),
}
