"""Small builders of domain values, with the true numbers of gpt-image-1.5 at EvoLink.

Prices and token counts are protocols/evolink.md §12, written out again here rather than read from
the packaged catalogue, so that the two are compared wherever they meet.
"""

from __future__ import annotations

import asyncio
from datetime import date
from fractions import Fraction
from typing import Any, cast

from starlette.requests import Request

from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.catalog import Catalog, Model, Offer, PromptLimits
from gateway.domain.errors import BudgetState
from gateway.domain.ids import RequestId, TaskId, TeamId
from gateway.domain.images import (
    Operation,
    Picture,
    PictureFormat,
    Size,
    StoredPicture,
    TokenUsage,
)
from gateway.domain.limits import Budget, Period
from gateway.domain.pricing import (
    Billing,
    Charge,
    ChargeBasis,
    OutputTokens,
    PriceBook,
    TokenBilling,
    TokenPrices,
    TokenTable,
)
from gateway.domain.sizes import FixedSizes, FreeSizes, SizeRule, named_sizes
from gateway.domain.task import (
    FailureKind,
    Hold,
    Render,
    RenderState,
    Result,
    SubmitOrder,
    Task,
    picture_key,
)
from gateway.edge.record import RequestRecord
from gateway.network.guard import Guard
from gateway.service.images import ImageService
from gateway.tasks.engine import Engine
from gateway.tasks.interface import Admission, Call
from gateway.tasks.live import LiveTask, Outcome
from gateway.tasks.waiting import Waiting
from tests.support.clock import NOON_MS, FixedClock

#: A key long enough to be shown by both its ends.
KEY = "sk-gw-4f1c0000000000000000000000009d2e"

SQUARE, PORTRAIT, LANDSCAPE = Size(1024, 1024), Size(1024, 1536), Size(1536, 1024)

OUTPUT_TOKENS = {
    ("low", "1024x1024"): 272,
    ("low", "1024x1536"): 408,
    ("low", "1536x1024"): 400,
    ("medium", "1024x1024"): 1056,
    ("medium", "1024x1536"): 1584,
    ("medium", "1536x1024"): 1568,
    ("high", "1024x1024"): 4160,
    ("high", "1024x1536"): 6240,
    ("high", "1536x1024"): 6208,
}

#: Micro-dollars per token: dollars per 1,000 tokens times 1,000.
EVOLINK_PRICES = TokenPrices(
    text_input=Fraction("4.5"),
    text_cached_input=Fraction("1.125"),
    image_input=Fraction("7.2"),
    image_cached_input=Fraction("1.8"),
    image_output=Fraction("28.8"),
    text_output=Fraction(9),
)


def a_token_billing(
    *,
    prices: TokenPrices = EVOLINK_PRICES,
    output: OutputTokens = TokenTable(OUTPUT_TOKENS),  # noqa: B008 - frozen
    thinking_tokens: int = 0,
) -> TokenBilling:
    """Build the billing of gpt-image-1.5; no allowance for thinking unless asked."""
    return TokenBilling(
        prices=prices, output=output, reference_tokens=1536, thinking_tokens=thinking_tokens
    )


def a_book(*, billing: Billing | None = None, thinking_tokens: int = 0) -> PriceBook:
    """Build EvoLink's price book of gpt-image-1.5, or one of another billing."""
    return PriceBook(
        billing=billing or a_token_billing(thinking_tokens=thinking_tokens),
        credits_per_usd=Fraction(68),
        source="protocols/evolink.md §12",
        date="2026",
    )


def an_unpriced_book() -> PriceBook:
    """Build a price book that knows the output tokens of no picture."""
    return a_book(billing=a_token_billing(output=TokenTable({})))


#: The ratios that EvoLink knows of gpt-image-2 (protocols/evolink.md §2.3).
RATIOS = (
    *("1:1", "1:2", "2:1", "1:3", "3:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9"),
    *("9:21", "21:9"),
)

#: The sizes of gpt-image-2 (protocols/evolink.md §2.3).
FREE_SIZES = FreeSizes(
    step=16,
    min_edge=16,
    max_edge=3840,
    min_pixels=655_360,
    max_pixels=8_294_400,
    max_aspect=3,
    named=named_sizes(
        [
            "1:1",
            "1:2",
            "2:1",
            "1:3",
            "3:1",
            "2:3",
            "3:2",
            "3:4",
            "4:3",
            "4:5",
            "5:4",
            "9:16",
            "16:9",
            "9:21",
            "21:9",
        ],
        {"1K": 1024**2, "2K": 2048**2, "4K": 3840 * 2160},
        max_edge=3840,
        max_pixels=8_294_400,
    ),
)


def an_offer(
    *,
    provider: str = "evolink",
    operation: Operation = Operation.GENERATION,
    sizes: tuple[Size, ...] | SizeRule = (SQUARE, PORTRAIT, LANDSCAPE),
    qualities: tuple[str, ...] = ("low", "medium", "high"),
    prompt_max_chars: int | None = None,
    max_references: int = 16,
    book: PriceBook | None = None,
    retires: date | None = None,
) -> Offer:
    """Build an offer of gpt-image-1.5."""
    return Offer(
        provider=provider,
        upstream_model="gpt-image-1.5",
        operation=operation,
        sizes=FixedSizes(sizes) if isinstance(sizes, tuple) else sizes,
        qualities=qualities,
        prompt=PromptLimits(chars=prompt_max_chars),
        book=book or a_book(),
        max_references=max_references,
        retires=retires,
    )


def a_model(
    name: str = "gpt-image-1.5",
    *,
    offers: tuple[Offer, ...] | None = None,
    unpriced_hold_microusd: int | None = None,
) -> Model:
    """Build a model with one offer, unless others are given."""
    return Model(
        name=name,
        created_s=1_765_843_200,
        owned_by="system",
        default_size=SQUARE,
        default_quality="medium",
        offers=(an_offer(),) if offers is None else offers,
        unpriced_hold_microusd=unpriced_hold_microusd,
    )


def a_budget(
    name: str = "day", *, limit_microusd: int = 50_000_000, per: Period = Period.DAY
) -> Budget:
    """Build a budget of 50 dollars a day in UTC."""
    return Budget(name=name, limit_microusd=limit_microusd, per=per)


def a_team(
    *,
    name: str = "design",
    models: tuple[str, ...] = ("gpt-image-*",),
    budgets: tuple[Budget, ...] = (),
    default_size: str | None = None,
    default_quality: str | None = None,
) -> Team:
    """Build a team that may use every gpt-image model."""
    return Team(
        id=TeamId(name),
        models=models,
        budgets=budgets,
        default_size=default_size,
        default_quality=default_quality,
    )


def a_caller(team: Team | None = None) -> Caller:
    """Build a caller with the team's key `ci`."""
    return Caller(team=team or a_team(), key=ApiKey("ci"))


def a_budget_state(
    *,
    name: str = "day",
    limit_microusd: int = 50_000_000,
    spent_microusd: int = 0,
    held_microusd: int = 0,
    resets_at_ms: int | None = None,
) -> BudgetState:
    """Build a budget as a script has answered it."""
    return BudgetState(
        owner="",
        scope="team",
        name=name,
        per="day" if resets_at_ms is not None else "total",
        limit_microusd=limit_microusd,
        spent_microusd=spent_microusd,
        held_microusd=held_microusd,
        resets_at_ms=resets_at_ms,
    )


def a_picture(
    *, prompt: str = "a cat", size: Size = SQUARE, quality: str = "low", references: int = 0
) -> Picture:
    """Build a picture to be priced; an edit when it has references."""
    operation = Operation.EDIT if references else Operation.GENERATION
    return Picture(operation, prompt, size, quality, references)


def a_render(
    index: int = 0,
    *,
    state: RenderState = RenderState.SUBMITTED,
    upstream_id: str | None = None,
    result: Result | None = None,
) -> Render:
    """Build a render that was posted once and that the upstream has taken."""
    return Render(
        index=index,
        state=state,
        attempt_id=f"run_{index:032}",
        upstream_id=f"task-unified-{index + 1}" if upstream_id is None else upstream_id,
        tries=1,
        submitted_ms=NOON_MS,
        result=result,
    )


def a_result(
    *,
    cost_microusd: int = 7834,
    failure: FailureKind | None = None,
    usage: TokenUsage | None = None,
    stored: StoredPicture | None = None,
    lost: bool = False,
) -> Result:
    """Build how a render ended: with a link to its picture, unless it failed."""
    return Result(
        cost_microusd=cost_microusd,
        basis=ChargeBasis.CREDITS if cost_microusd else ChargeBasis.NOTHING,
        failure=failure,
        links=() if failure else ("https://files.evolink.ai/x_0.png",),
        usage=usage,
        stored=stored,
        lost=lost,
    )


TEAM_ID, TASK_ID = TeamId("design"), TaskId("imgtask_" + "0" * 32)


def a_picture_in_store(index: int = 0, *, size_bytes: int = 3) -> StoredPicture:
    """Build the picture of a render of `a_task`, as it is in the asset store."""
    return StoredPicture(
        picture_key(TEAM_ID, TASK_ID, index), size_bytes=size_bytes, format=PictureFormat.PNG
    )


def a_task(
    *renders: Render,
    provider: str = "evolink",
    state: RenderState = RenderState.SUBMITTED,
    hold_microusd: int = 10_000,
    size: str = "1024x1024",
    quality: str = "low",
) -> Task:
    """Build a task of team `design` with one render, unless others are given."""
    return Task(
        id=TASK_ID,
        team=TEAM_ID,
        key_name="ci",
        user="",
        model="gpt-image-1.5",
        operation=Operation.GENERATION,
        size=size,
        quality=quality,
        created_ms=NOON_MS,
        owner="replica_" + "0" * 32,
        epoch=1,
        order=SubmitOrder(provider=provider, account="evolink", body={"model": "m"}),
        hold=Hold(amount_microusd=hold_microusd, windows=()),
        renders=renders or (a_render(state=state),),
        call="f" * 32,
    )


def a_live_task(task: Task | None = None, *, admitted_s: float = 0.0) -> LiveTask:
    """Build a running task with its renders; needs a running event loop for its outcome."""
    live = LiveTask(
        task=task or a_task(),
        offer=an_offer(),
        admitted_s=admitted_s,
        budgets=(),
        done=asyncio.get_running_loop().create_future(),
    )
    live.add_renders(admitted_s)
    return live


def a_charge(total_microusd: int = 7834) -> Charge:
    """Build a charge for image output, from the upstream's credits."""
    return Charge(
        total_microusd=total_microusd,
        by_category={"image_output": total_microusd},
        basis=ChargeBasis.CREDITS,
    )


def an_outcome(*renders: Render, size_bytes: int = 3, usage: TokenUsage | None = None) -> Outcome:
    """Build the outcome of a task whose one picture is stored, or of the renders given."""
    stored = a_picture_in_store(size_bytes=size_bytes)
    delivered = a_render(state=RenderState.COMPLETED, result=a_result(usage=usage, stored=stored))
    return Outcome(a_task(*(renders or (delivered,))))


def a_catalog_service(*models: Model) -> ImageService:
    """Build a service that knows these models and has nothing to make pictures with."""
    return ImageService(
        catalog=Catalog({model.name: model for model in models}),
        providers={},
        engine=cast("Engine", None),
        waiting=cast("Waiting", None),
        guard=Guard(),
        wait_s=1.0,
        clock=FixedClock(),
        random_bytes=bytes,
    )


def a_call(
    waiter: str = "req_1",
    *,
    fingerprint: str = "f" * 32,
    count: int = 0,
    idempotency: str = "",
    detached: bool = False,
    joins: bool = True,
) -> Call:
    """Build a first call that says nothing of itself."""
    return Call(
        fingerprint=fingerprint,
        waiter=waiter,
        count=count,
        idempotency=idempotency,
        detached=detached,
        joins=joins,
    )


def an_admission(
    task: str = "task1",
    *,
    team: Team | None = None,
    key: ApiKey | None = None,
    version: str = "",
    user: str = "",
    subject: str = "",
    images: int = 1,
    hold_microusd: int = 60,
    call: Call | None = None,
    patience_ms: int = 0,
) -> Admission:
    """Build a call for low squares that wants to become a task.

    Each task is another call's, unless one is given: it joins none. `user` is the end user as far
    as the books know, `subject` where they do not.
    """
    return Admission(
        id=TaskId(task),
        caller=Caller(team or a_team(), key or ApiKey("ci"), version),
        user=user,
        images=images,
        model="gpt-image-1.5",
        operation=Operation.GENERATION,
        size="1024x1024",
        quality="low",
        hold_microusd=hold_microusd,
        order=SubmitOrder("evolink", "evolink:1", {"prompt": "a red fox"}),
        call=call or a_call(f"req_{task}", fingerprint=f"call_{task}"),
        patience_ms=patience_ms,
        subject=user or subject,
    )


def a_record() -> RequestRecord:
    """Build the record of a request that started at second 1000 of a `FixedClock`."""
    return RequestRecord(request_id=RequestId("req_" + "0" * 32), started_s=1000.0)


def a_scope(path: str = "/v1/models", *, method: str = "GET", **headers: str) -> dict[str, Any]:
    """Build an ASGI scope; header names are written with underscores."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "server": ("gateway", 8080),
        "client": ("127.0.0.1", 50000),
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
    }


def a_request(path: str = "/v1/models", *, method: str = "GET", **headers: str) -> Request:
    """Build a request that has its record, as handlers and error handlers see it."""
    return Request(a_scope(path, method=method, **headers) | {"state": {"record": a_record()}})
