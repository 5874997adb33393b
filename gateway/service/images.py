"""What the product does for one call: resolve, price, hold, hand over, wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.domain.accounts import Caller, Team
from gateway.domain.catalog import Catalog, Model, Offer, unpriced
from gateway.domain.errors import (
    BadReference,
    CostLimitExceeded,
    GatewayError,
    InvalidRequest,
    ModelNotAllowed,
    ModerationBlocked,
    RateLimited,
    StillRunning,
    SubmitUnknown,
    UnsupportedImage,
    UpstreamFailed,
    UpstreamUnavailable,
)
from gateway.domain.ids import ID_BYTES, make_task_id
from gateway.domain.images import ImageRequest, Picture
from gateway.domain.pricing import Quote
from gateway.domain.task import FailureKind
from gateway.ledger.holds import user_hash
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
        if not caller.may_use(model.name):
            raise ModelNotAllowed(model.name)
        picture = model.picture(
            request, default_size=team.default_size, default_quality=team.default_quality
        )
        best = model.best(picture)
        if best is None:
            raise unpriced(model, picture)
        offer, price = best
        return Plan(model=model, offer=offer, picture=picture, quote=price)

    async def start(self, caller: Caller, request: ImageRequest, plan: Plan) -> LiveTask:
        """Hold the price and hand the task to the engine.

        A call above a quota waits for its turn as long as its team's settings say. Raises
        BudgetExceeded, CostLimitExceeded, DailyQuotaExceeded, RateLimited, StoreUnavailable, and
        AccountChangedError when the caller must be read again; nothing was submitted then.
        """
        _check_call_cap(caller, plan.quote.total_microusd)
        team = caller.team
        admission = Admission(
            id=make_task_id(self._random_bytes(ID_BYTES)),
            caller=caller,
            user=end_user_of(caller, request),
            images=1,
            model=plan.model.name,
            size=str(plan.picture.size),
            quality=plan.picture.quality,
            hold_microusd=plan.quote.total_microusd,
            order=self._providers[plan.offer.provider].compose(plan.offer, plan.picture),
        )
        patience_ms = team.quotas.queue_ms
        while True:
            try:
                return await self._engine.admit(admission, plan.offer)
            except RateLimited as refusal:
                if refusal.retry_after_ms > patience_ms:
                    raise
                patience_ms -= refusal.retry_after_ms
                await asyncio.sleep(refusal.retry_after_ms / 1000)

    async def finish(self, live: LiveTask) -> Delivered:
        """Wait for the picture, as long as one HTTP call may.

        Raises StillRunning when the wait ends first, and the error a failed task stands for.
        """
        outcome = await live.wait(self._wait_s)
        if isinstance(outcome, Delivered):
            return outcome
        raise error_of(outcome)


def end_user_of(caller: Caller, request: ImageRequest) -> str:
    """Return what the books call the end user of a call; empty where users have no budgets."""
    team, end_user = caller.team, request.safety_identifier or request.user
    return user_hash(team.id, end_user) if end_user and team.user_budgets else ""


def _check_call_cap(caller: Caller, price_microusd: int) -> None:
    cap_microusd = caller.call_cap_microusd()
    if cap_microusd is not None and price_microusd > cap_microusd:
        raise CostLimitExceeded(
            price_microusd=price_microusd, cap_microusd=cap_microusd, param=None
        )


def error_of(ended: Ended) -> GatewayError:
    """Return what a caller is told about a task that ended without a picture."""
    if ended.failure in _NOTHING_CREATED and not ended.submitted:
        asked_s = ended.retry_after_s or RETRY_AFTER_S
        return UpstreamUnavailable(retry_after_s=min(max(math.ceil(asked_s), 1), MAX_RETRY_AFTER_S))
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
