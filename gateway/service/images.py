"""What the product does for one call: resolve, price, hold, hand over, wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from gateway.callbacks.url import check_callback_url
from gateway.domain.accounts import Caller, Team
from gateway.domain.catalog import Catalog, Model, Offer, no_such_model, unmade
from gateway.domain.clock import Clock
from gateway.domain.errors import (
    BadReference,
    ClientFault,
    CostLimitExceeded,
    GatewayError,
    InvalidRequest,
    ModelNotAllowed,
    ModerationBlocked,
    RateLimited,
    StillRunning,
    SubmitUnknown,
    UpstreamFailed,
    UpstreamUnavailable,
)
from gateway.domain.ids import ID_BYTES, make_task_id
from gateway.domain.images import ImageRequest, Output, Picture, PictureFormat
from gateway.domain.latency import LatencyClass, size_class
from gateway.domain.pricing import Quote
from gateway.domain.task import PASSING_FAILURES, FailureKind, Render
from gateway.ledger.holds import user_hash
from gateway.network.guard import Guard
from gateway.providers.interface import Provider
from gateway.tasks.engine import Engine, Ticket
from gateway.tasks.interface import Admission, Call
from gateway.tasks.live import Outcome
from gateway.tasks.waiting import Waiting
from gateway.telemetry.traces import current_span

#: What `retry-after` says when the upstream did not: seconds, and never more than SDKs honour.
RETRY_AFTER_S = 10
MAX_RETRY_AFTER_S = 60

#: What a caller is told to expect is enough for this share of pictures of the kind.
EXPECTED_SHARE = 0.95

#: So long before a model is gone its callers are warned.
WARNED_BEFORE = timedelta(days=14)

#: Tells within how many seconds a share of the renders of a class ends; None where nobody knows.
Quantile = Callable[[LatencyClass, float], float | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """A call with nothing left to decide: what is made, by whom, for how much at the most."""

    model: Model
    offer: Offer
    picture: Picture
    quote: Quote

    @property
    def latency_class(self) -> LatencyClass:
        """Its picture takes about as long as others of this class."""
        return LatencyClass(
            provider=self.offer.provider,
            model=self.offer.upstream_model,
            operation=self.picture.operation,
            quality=self.picture.quality,
            size_class=size_class(self.picture.size),
        )


def _unknown(_class: LatencyClass, _share: float) -> float | None:
    """Know nothing of how long pictures take."""
    return None


class ImageService:
    """Makes pictures for teams."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        providers: Mapping[str, Provider],
        engine: Engine,
        waiting: Waiting,
        guard: Guard,
        wait_s: float,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        quantile: Quantile = _unknown,
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._providers = providers
        self._engine = engine
        self._waiting = waiting
        self._guard = guard
        self._wait_s = wait_s
        self._random_bytes = random_bytes
        self._quantile = quantile

    @property
    def wait_s(self) -> float:
        """How long one HTTP call waits at the most."""
        return self._wait_s

    def expected_s(self, plan: Plan) -> float | None:
        """Return seconds within which a picture like this is nearly always done, once submitted.

        None where nothing is known of its kind.
        """
        return self._quantile(plan.latency_class, EXPECTED_SHARE)

    def models_for(self, team: Team) -> tuple[Model, ...]:
        """Return the models this team may use, by name; without those that are gone."""
        found = (self.model_for(team, name) for name in sorted(self._catalog.models))
        return tuple(model for model in found if model is not None and model.offers)

    def model_for(self, team: Team, name: str) -> Model | None:
        """Return one model, by name or alias, if it exists and this team may use it."""
        model = self.find_model(name)
        return model if model is not None and team.may_use(model.name) else None

    def find_model(self, name: str) -> Model | None:
        """Return a model of the catalogue as it is today, by name or alias, whoever asks."""
        return self._catalog.find(name, self.today)

    @property
    def today(self) -> date:
        """The day in UTC, by which offers end."""
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).date()

    def ends_soon(self, model: Model) -> bool:
        """Tell whether callers are to be warned that a model will be gone."""
        end = model.shutdown_date
        return end is not None and end - self.today <= WARNED_BEFORE

    def plan(self, caller: Caller, request: ImageRequest) -> Plan:
        """Resolve `auto`, choose the offer and price the call; nothing is held yet.

        Raises UnsupportedImage, ModelNotAllowed and InvalidRequest.
        """
        model = self.find_model(request.model)
        if model is None or not model.offers:
            raise no_such_model(request.model)
        team = caller.team
        if not caller.may_use(model.name):
            raise ModelNotAllowed(model.name)
        picture = model.picture(
            request, default_size=team.default_size, default_quality=team.default_quality
        )
        if picture.masked:
            self._check_mask(caller, model)
        best = model.best(picture)
        if best is None:
            raise unmade(model, picture)
        offer, price = best
        return Plan(model=model, offer=offer, picture=picture, quote=price)

    def _check_mask(self, caller: Caller, model: Model) -> None:
        """Raise InvalidRequest when nobody who makes this model's edits takes a mask."""
        if model.takes_masks:
            return
        others = [
            each.name
            for each in self.models_for(caller.team)
            if each.takes_masks and caller.may_use(each.name)
        ]
        instead = f" These models do: {', '.join(others)}." if others else ""
        raise InvalidRequest(
            f"The model '{model.name}' does not take a mask here.{instead}",
            param="mask",
            code="mask_not_supported",
        )

    async def start(self, caller: Caller, request: ImageRequest, plan: Plan, call: Call) -> Ticket:
        """Hold the price and hand the task to the engine, or join the task this is a retry of.

        A call above a quota waits for its turn as long as its team's settings say. Raises
        BudgetExceeded, CostLimitExceeded, DailyQuotaExceeded, RateLimited, StoreUnavailable,
        IdempotencyConflict, PictureExpired, and AccountChangedError when the caller must be read
        again; nothing was submitted then.
        """
        _check_caps(caller, request, plan.quote.total_microusd * request.n)
        if request.callback_url is not None:
            await check_callback_url(request.callback_url, self._guard)
        admission = Admission(
            id=make_task_id(self._random_bytes(ID_BYTES)),
            caller=caller,
            user=end_user_of(caller, request),
            images=request.n,
            model=plan.model.name,
            operation=plan.picture.operation,
            size=str(plan.picture.size),
            quality=plan.picture.quality,
            hold_microusd=plan.quote.total_microusd,
            order=replace(
                self._providers[plan.offer.provider].compose(plan.offer, plan.picture),
                references=request.references,
            ),
            call=call,
            references=plan.picture.references,
            callback_url=request.callback_url or "",
            patience_ms=caller.team.quotas.queue_ms,
            output=Output(PictureFormat(request.output_format), request.output_compression),
            subject=subject_of(caller, request),
            book=plan.offer.written,
            trace=current_span().context,
        )
        while True:
            try:
                return await self._engine.admit(admission, plan.offer)
            except RateLimited as refusal:
                patience_ms = admission.patience_ms - refusal.retry_after_ms
                if patience_ms < 0:
                    raise
                admission = replace(admission, patience_ms=patience_ms)
                await asyncio.sleep(refusal.retry_after_ms / 1000)

    async def finish(self, ticket: Ticket) -> Outcome:
        """Wait for the pictures, as long as one HTTP call may; there is at least one.

        Raises StillRunning when the wait ends first, and the error a failed task stands for.
        """
        outcome = await self.outcome(ticket, within_s=self._wait_s)
        if outcome is None:
            raise StillRunning
        return outcome

    async def outcome(
        self, ticket: Ticket, *, within_s: float, beyond: int | None = None
    ) -> Outcome | None:
        """Wait so long for the pictures; None when they are not there by then.

        With `beyond`, more pictures than that are enough, whatever becomes of the others. Raises
        the error a failed task stands for. May be called again.
        """
        try:
            outcome = await self._waiting.outcome(
                ticket.team, ticket.task, timeout_s=within_s, beyond=beyond
            )
        except StillRunning:
            return None
        if outcome.delivered:
            return outcome
        raise error_of(outcome)

    async def leave(self, ticket: Ticket) -> None:
        """Note that the call no longer waits: the picture goes on being made for a retry."""
        await self._engine.leave(ticket)

    def leaving(self) -> None:
        """Say that some of an answer has left; its client may have all of it, or no more."""
        self._engine.reached("leaving")

    def delivered(self, ticket: Ticket) -> None:
        """Note that the answer has left."""
        self._engine.delivered(ticket)

    def turned_away(self, caller: Caller, call: Call) -> None:
        """Note that a call was sent away before it was a task: its retry is a call of its own."""
        self._engine.expect_retry(caller.team.id, call)


def subject_of(caller: Caller, request: ImageRequest) -> str:
    """Return the hash of the end user of a call, empty when it names none."""
    end_user = request.safety_identifier or request.user
    return user_hash(caller.team.id, end_user) if end_user else ""


def end_user_of(caller: Caller, request: ImageRequest) -> str:
    """Return what the books call the end user of a call; empty where nobody asks for them."""
    return subject_of(caller, request) if caller.team.knows_users else ""


def _check_caps(caller: Caller, request: ImageRequest, price_microusd: int) -> None:
    caps = ((request.max_cost_microusd, "max_cost_usd"), (caller.call_cap_microusd(), None))
    for cap_microusd, param in caps:
        if cap_microusd is not None and price_microusd > cap_microusd:
            raise CostLimitExceeded(
                price_microusd=price_microusd, cap_microusd=cap_microusd, param=param
            )


def error_of(outcome: Outcome) -> GatewayError:
    """Return what a caller is told about a task that ended without a picture."""
    failed = max(outcome.task.renders, key=_weight)
    failure = FailureKind.RESULT_LOST
    if failed.result is not None and failed.result.failure is not None:
        failure = failed.result.failure
    if failure in PASSING_FAILURES and not failed.upstream_id and failure not in _TOLD:
        asked_s = outcome.retry_after_s or RETRY_AFTER_S
        return UpstreamUnavailable(retry_after_s=min(max(math.ceil(asked_s), 1), MAX_RETRY_AFTER_S))
    if failure is FailureKind.MODERATION:
        # What was refused before it was a task can only have been the words.
        return ModerationBlocked(stage="unknown" if failed.upstream_id else "input")
    return _TOLD.get(failure, UpstreamFailed)()


def is_final(error: GatewayError) -> bool:
    """Tell whether an error is the answer to its call, which only its own retries get again.

    Every other one leaves the task to whoever makes the call next.
    """
    return isinstance(error, ClientFault | UpstreamFailed)


def _weight(render: Render) -> int:
    """Order renders that failed: what was charged or submitted says more than what was not."""
    charged = render.result is not None and render.result.cost_microusd > 0
    return 2 * charged + bool(render.upstream_id)


#: What the other reasons are told as; those that are missing are an upstream that failed.
_TOLD: dict[FailureKind, Callable[[], GatewayError]] = {
    FailureKind.INVALID_REQUEST: lambda: InvalidRequest(
        "The image service did not accept these parameters.", param=None, code="invalid_value"
    ),
    FailureKind.PROMPT_TOO_LONG: lambda: InvalidRequest(
        "Invalid 'prompt': string too long. The model does not take a prompt of this length.",
        param="prompt",
        code="string_above_max_length",
    ),
    FailureKind.BAD_REFERENCE: BadReference,
    FailureKind.SUBMIT_UNKNOWN: SubmitUnknown,
    FailureKind.DEADLINE: lambda: StillRunning(
        "The picture waited too long for its turn; nothing was charged."
    ),
    FailureKind.WITHDRAWN: lambda: StillRunning(
        "The picture was withdrawn before it was ordered; nothing was charged."
    ),
}
