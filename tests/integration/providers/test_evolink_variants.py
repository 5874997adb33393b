"""Every variant of EvoLink that is on record, row by row: what the provider makes of it.

A row is named after its place in protocols/evolink.md. The simulator plays it, the provider and the
fetcher read it as they ship. What only means something in the running product is elsewhere:
callbacks (§17.7) in tests/e2e/test_upstream_callbacks.py, refunds and charges in test_refusals.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from gateway.assets.convert import Converter
from gateway.assets.ingest import FetchSettings, HttpPictureFetcher
from gateway.assets.interface import LinkDeadError, LinkUnavailableError
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.background import SystemClock
from gateway.domain.images import PLAIN_PNG, Operation, Picture, PictureFormat, TokenUsage
from gateway.domain.task import FailureKind, SubmitOrder
from gateway.network.clients import build_fetch_client, build_poll_client, build_submit_client
from gateway.providers.evolink import EvolinkProvider, EvolinkSettings
from gateway.providers.interface import (
    Accepted,
    Failed,
    Finished,
    Missing,
    PollFailed,
    PollOutcome,
    Rejected,
    Running,
    SubmitOutcome,
    Unknown,
)
from gateway.simulator.rules import read_rules
from gateway.simulator.settings import (
    Envelope,
    Idempotency,
    RetryAfter,
    Shape,
    SimulatorSettings,
)
from tests.support.factories import SQUARE, an_offer
from tests.support.gateway import serving_simulator

pytestmark = pytest.mark.asyncio(loop_scope="module")

Kind = FailureKind
SHORT_S = 0.4
UNREACHABLE = {"image_urls": ["http://127.0.0.1:9/a.png"]}
INLINE = {"image_urls": ["data:image/png;base64,AAAA"]}
NOTHING: dict[str, object] = {}


@dataclass(frozen=True, slots=True)
class Row:
    """One variant: what plays it, and what must be read.

    `submit` and `end` are the type of an outcome, or the kind of a refusal or failure; `end` is
    None where nothing is polled. `wait_s` is what the last answer asks for.
    """

    place: str
    markers: str = ""
    submit: object = Accepted
    end: object = None
    body: dict[str, object] = field(default_factory=dict)
    settings: tuple[tuple[str, object], ...] = ()
    wait_s: float | None = None


def told(outcome: SubmitOutcome | PollOutcome) -> object:
    """Return what a row says of an outcome."""
    return outcome.kind if isinstance(outcome, Rejected | Failed) else type(outcome)


def envelopes() -> Iterator[Row]:
    """§9.1: every envelope around the same refusals; the code decides, else the status does."""
    for envelope in Envelope:
        for code, kind in (
            ("unauthorized", Kind.AUTH),
            ("insufficient_quota", Kind.INSUFFICIENT_FUNDS),
            ("rate_limit_exceeded", Kind.RATE_LIMITED),
            ("model_access_denied", Kind.AUTH),
            ("invalid_request", Kind.INVALID_REQUEST),
        ):
            markers = f"[[submit:{code}]][[envelope:{envelope}]][[retry-after:none]]"
            yield Row(f"§9.1 {envelope} around {code}", markers, kind)
        for code in ("internal_error", "upstream_error", "service_unavailable"):
            markers = f"[[submit:{code}]][[envelope:{envelope}]]"
            yield Row(f"§9.1 {envelope} around {code}", markers, Unknown)
        markers = f"[[poll:task_not_found]][[envelope:{envelope}]]"
        yield Row(f"§9.1 {envelope} around a poll's 404", markers, Accepted, Missing)
    for what in ("html", "text", "empty", "unsuccessful", "drop"):
        yield Row(f"§9.1 {what} before anything is made", f"[[submit:{what}]]", Unknown)
        yield Row(f"§9.1 {what} to a poll", f"[[poll:{what}]]", Accepted, PollFailed)
    for what in ("html", "text", "empty", "unsuccessful", "drop", "truncated", "cut", "no-id"):
        yield Row(f"§9.1 {what} of a task that exists", f"[[created:{what}]]", Unknown)
    for what in ("truncated", "cut"):
        yield Row(f"§9.1 {what} to a poll", f"[[poll:{what}]]", Accepted, PollFailed)


#: §9.2: both tables. The older one has the HTTP status as its code.
SUBMIT_STATUSES = {
    "invalid_request": Kind.INVALID_REQUEST,
    "unauthorized": Kind.AUTH,
    "insufficient_quota": Kind.INSUFFICIENT_FUNDS,
    "model_access_denied": Kind.AUTH,
    "model_not_found": Kind.UPSTREAM_DOWN,
    "request_too_large": Kind.BAD_REFERENCE,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "internal_error": Unknown,
    "upstream_error": Unknown,
    "service_unavailable": Unknown,
}

#: §9.3: codes the newest client classifies.
CLASSIFIED = {
    "insufficient_user_quota": Kind.INSUFFICIENT_FUNDS,
    "quota_not_enough": Kind.INSUFFICIENT_FUNDS,
    "account_balance_insufficient": Kind.INSUFFICIENT_FUNDS,
    "insufficient_token_quota": Kind.INSUFFICIENT_FUNDS,
    "key_quota_exhausted": Kind.INSUFFICIENT_FUNDS,
    "token_daily_quota_exceeded": Kind.INSUFFICIENT_FUNDS,
    "key_daily_quota_exhausted": Kind.INSUFFICIENT_FUNDS,
    "key_disabled": Kind.AUTH,
    "key_expired": Kind.AUTH,
    "key_model_not_allowed": Kind.AUTH,
    "permission_denied": Kind.AUTH,
    "content_policy_violation": Kind.MODERATION,
    "content_filter": Kind.MODERATION,
    "sensitive_content": Kind.MODERATION,
    "moderation_blocked": Kind.MODERATION,
    "input_moderation_failed": Kind.MODERATION,
    "idempotency_conflict": Unknown,
    "paid_outcome_unknown": Unknown,
}
NO_ROUTE = (
    *("no_available_channel", "model_unavailable", "channel_selection_failed"),
    *("service_unavailable", "channel:no_available_key"),
)


def refusals() -> Iterator[Row]:
    """§9.2 and §9.3: every code."""
    for envelope in ("string", "integer", "passthrough"):
        for code, expected in SUBMIT_STATUSES.items():
            markers = f"[[submit:{code}]][[envelope:{envelope}]][[retry-after:none]]"
            yield Row(f"§9.2 {code} as {envelope}", markers, expected)
    for code, expected in CLASSIFIED.items():
        for envelope in ("string", "upper", "rich"):
            markers = f"[[submit:{code}]][[envelope:{envelope}]]"
            yield Row(f"§9.3 {code} as {envelope}", markers, expected)
    for code in NO_ROUTE:
        # Only a 4xx proves that nothing was made.
        yield Row(f"§9.3 {code} with 503", f"[[submit:{code}]]", Unknown)
        yield Row(f"§9.3 {code} with 400", f"[[submit:{code}]][[http:400]]", Kind.UPSTREAM_DOWN)
    yield Row("§9.3 a prompt that is missing is 500", "", Unknown, body={"prompt": None} | NANO)
    long = "a fox and " * 4_000
    yield Row("§9.3 a prompt too long", "", Kind.PROMPT_TOO_LONG, body={"prompt": long} | SEEDREAM)
    odd = {"prompt_priority": "odd"}
    yield Row("§9.3 an option that is not supported", "", Kind.INVALID_REQUEST, body=odd | SEEDREAM)


NANO = {"model": "gemini-3.1-flash-image-preview", "size": "1:1", "quality": "1K"}
SEEDREAM = {"model": "doubao-seedream-5.0-pro", "size": "1024x1024", "quality": "1K"}
GPT_2 = {"model": "gpt-image-2", "quality": "low"}
BETA = {"model": "gpt-image-2-beta", "quality": None, "size": "1024x1024"}
TRANSPARENT = {"background": "transparent", "output_format": "png"}
INTEGER = "[[envelope:integer]]"
LIMITED = "[[submit:rate_limit_exceeded]]"
NO_WAIT = "[[retry-after:none]]"

#: §14, by the number of its row: both sides of each contradiction.
CONTRADICTIONS = (
    Row("§14.1 code is a word", "[[submit:unauthorized]]", Kind.AUTH),
    Row("§14.1 code is an integer", f"[[submit:unauthorized]]{INTEGER}", Kind.AUTH),
    Row(
        "§14.2 402 is insufficient_quota_error",
        f"[[submit:insufficient_quota]]{INTEGER}",
        Kind.INSUFFICIENT_FUNDS,
    ),
    Row(
        "§14.2 402 is insufficient_quota",
        "[[submit:insufficient_quota]]",
        Kind.INSUFFICIENT_FUNDS,
    ),
    Row("§14.2 402 is quota_exceeded", "[[poll:quota_exceeded]]", Accepted, PollFailed),
    Row("§14.3 429 is rate_limit_error", f"{LIMITED}{NO_WAIT}", Kind.RATE_LIMITED),
    Row("§14.3 429 is evo_api_error", "[[poll:rate_limit_exceeded]]", end=PollFailed, wait_s=2),
    Row("§14.3 429 is nothing", f"[[submit:resource_exhausted]]{NO_WAIT}", Kind.RATE_LIMITED),
    Row("§14.4 cancelled is failed", "[[fail:request_cancelled]]", end=Kind.CANCELLED),
    Row("§14.4 cancelled", "[[status:cancelled]]", end=Kind.CANCELLED),
    Row("§14.4 canceled", "[[status:canceled]]", end=Kind.CANCELLED),
    Row("§14.5 completed as documented", "[[shape:docs]]", end=Finished),
    Row("§14.5 completed as recorded", "[[shape:live]]", end=Finished),
    Row("§14.6 result_data has url", "[[shape:data-only]]", end=Finished),
    Row("§14.6 result_data has image_url", "[[shape:image-urls]]", end=Finished),
    Row("§14.6 result_data is an object", "[[shape:data-object]]", end=Finished),
    Row("§14.7 usage has tokens and credits", "[[shape:live]]", end=Finished),
    Row("§14.7 usage has a cost, too", "[[shape:cost]]", end=Finished),
    Row("§14.7 usage has a cost alone", "[[shape:mock]]", end=Finished),
    Row("§14.8 credits_reserved in thousandths", "[[shape:quickstart]]", end=Finished),
    Row("§14.8 credits_reserved in credits", end=Finished),
    Row("§14.9 n of gpt-image-1.5 is 1 only", end=Finished),
    Row("§14.9 n of gpt-image-1.5 is more", "[[rules:other]]", end=Finished),
    Row("§14.9 n of gpt-image-1.5 is refused", submit=Kind.INVALID_REQUEST, body={"n": 2}),
    Row("§14.10 quality of gpt-image-1.5", "[[rules:other]]", end=Finished),
    Row("§14.10 auto is refused", submit=Kind.INVALID_REQUEST, body={"quality": "auto"}),
    Row("§14.10 auto is taken", "[[rules:other]]", end=Finished, body={"quality": "auto"}),
    Row("§14.11 background of gpt-image-2", end=Finished, body=GPT_2 | TRANSPARENT),
    Row("§14.11 no background", "[[rules:other]]", end=Finished, body=GPT_2 | TRANSPARENT),
    Row("§14.12 60,000 bytes", submit=Kind.PROMPT_TOO_LONG, body=GPT_2 | {"prompt": "漢" * 20_001}),
    Row(
        "§14.12 32,000 code points",
        end=Finished,
        body=GPT_2 | {"prompt": "[[rules:other]]" + "漢" * 20_001},
    ),
    Row("§14.13 4K 2:1 is 3840x1920", end=Finished, body=GPT_2 | {"size": "3840x1920"}),
    Row("§14.13 4K 2:1 is 3840x1904", end=Finished, body=GPT_2 | {"size": "3840x1904"}),
    Row("§14.14 n gives one", "[[images:1]]", end=Finished, body=GPT_2 | {"n": 4}),
    Row("§14.15 gpt-image-2-beta by ratio", submit=Kind.INVALID_REQUEST, body=BETA),
    Row("§14.15 gpt-image-2-beta by pixels", "[[rules:other]]", end=Finished, body=BETA),
    Row("§14.16 -lite", end=Finished, body={"model": "gpt-image-1.5-lite"}),
    Row("§14.16 -beta", end=Finished, body={"model": "gpt-image-1.5-beta"}),
    Row("§14.17 seedream-5.0-pro is small", end=Finished, body=SEEDREAM | {"size": "960x960"}),
    Row(
        "§14.17 seedream-5.0-pro is not small",
        "[[rules:other]]",
        Kind.INVALID_REQUEST,
        body=SEEDREAM | {"size": "960x960"},
    ),
    Row("§14.19 a reference over 4 MB", "[[submit:request_too_large]]", Kind.BAD_REFERENCE),
    Row(
        "§14.19 a reference over 10 MB",
        "[[fail:invalid_parameters]][[message:file size exceeds 10MB]]",
        end=Kind.BAD_REFERENCE,
    ),
    Row("§14.24 billing_rule is another", "[[shape:extra]]", end=Finished),
    Row("§14.25 object is image.generation.task", "[[shape:live]]", end=Finished),
    Row("§14.25 object is task", "[[shape:mock]]", end=Finished),
    Row(
        "§14.26 where to top up",
        "[[submit:insufficient_quota]][[envelope:rich]]",
        Kind.INSUFFICIENT_FUNDS,
    ),
    Row("§14.28 unknown parameters are refused", "[[rules:no-unknown]]", end=Finished),
    Row(
        "§14.28 an unknown parameter",
        "[[rules:no-unknown]]",
        Kind.INVALID_REQUEST,
        body={"seed": 1},
    ),
)
#: Rows of §14 that are not here, and where they are.
NOT_HERE = {
    18: "references are sent by edits only",
    20: "nothing is uploaded for a generation",
    21: "nothing is uploaded for a generation",
    22: "test_result_hosts",
    23: "test_credits_are_read_as_they_were_billed",
    27: "masks are sent by edits only",
}

#: §4.6: the codes of a failed task, with the messages that change their meaning.
TASK_CODES = {
    "content_policy_violation": Kind.MODERATION,
    "invalid_parameters": Kind.PROMPT_TOO_LONG,
    "image_processing_error": Kind.BAD_REFERENCE,
    "image_dimension_mismatch": Kind.BAD_REFERENCE,
    "request_cancelled": Kind.CANCELLED,
    "generation_failed_no_content": Kind.GENERATION_FAILED,
    "service_error": Kind.GENERATION_FAILED,
    "generation_timeout": Kind.GENERATION_FAILED,
    "resource_exhausted": Kind.RATE_LIMITED,
    "quota_exceeded": Kind.RATE_LIMITED,
    "service_unavailable": Kind.UPSTREAM_DOWN,
    "resource_not_found": Kind.GENERATION_FAILED,
    "unknown_error": Kind.GENERATION_FAILED,
    "model_unavailable": Kind.UPSTREAM_DOWN,
    "upstream_error": Kind.UPSTREAM_DOWN,
    "rate_limited": Kind.RATE_LIMITED,
}
MESSAGES = (
    ("content_policy_violation", "celebrity detected in image", Kind.MODERATION),
    ("invalid_parameters", "Prompt is too long", Kind.PROMPT_TOO_LONG),
    ("invalid_parameters", "unsupported file type", Kind.BAD_REFERENCE),
    (
        "invalid_parameters",
        "image dimensions must be between 240 and 7680",
        Kind.BAD_REFERENCE,
    ),
    (
        "invalid_parameters",
        "Invalid mask image format - mask image missing alpha channel",
        Kind.BAD_REFERENCE,
    ),
    ("generation_failed_no_content", "blocked by our safety policy", Kind.MODERATION),
)
#: §4.7: refusals of a poll; none of them is the end of a task but 404 and 410.
QUERY_CODES = {
    **dict.fromkeys(
        ("invalid_task_id", "unauthorized", "quota_exceeded", "permission_denied"), PollFailed
    ),
    **dict.fromkeys(("task_not_found", "task_expired"), Missing),
    **dict.fromkeys(("internal_error", "upstream_error", "service_unavailable"), PollFailed),
}


def lives() -> Iterator[Row]:
    """§4.6, §4.7 and §17: a task's life and ends."""
    for code, kind in TASK_CODES.items():
        yield Row(f"§4.6 {code}", f"[[fail:{code}]]", end=kind)
    for code, message, kind in MESSAGES:
        yield Row(f"§4.6 {message}", f"[[fail:{code}]][[message:{message}]]", end=kind)
    for form in ("object", "text", "integer", "suggestion", "null"):
        markers = f"[[fail:service_error]][[error:{form}]]"
        yield Row(f"§4.6 error is {form}", markers, end=Kind.GENERATION_FAILED)
    for code, outcome in QUERY_CODES.items():
        yield Row(f"§4.7 {code}", f"[[poll:{code}]]", end=outcome)
        yield Row(f"§4.7 {code} as an integer", f"[[poll:{code}]]{INTEGER}", end=outcome)


#: §17, by the number of its point.
FAULTS = (
    Row("§17.1 created", end=Finished),
    Row("§17.1 created and finished at once", "[[at-once]]", end=Finished),
    Row("§17.2 pending", "[[stuck:pending]]", end=Running),
    Row("§17.2 processing", "[[stuck:processing]]", end=Running),
    Row(
        "§17.4 a limit passed through", f"[[submit:resource_exhausted]]{NO_WAIT}", Kind.RATE_LIMITED
    ),
    Row("§17.4 Retry-After in seconds", f"{LIMITED}[[retry-after:7]]", Kind.RATE_LIMITED, wait_s=7),
    Row(
        "§17.4 Retry-After as a date",
        f"{LIMITED}[[retry-after:date:60]]",
        Kind.RATE_LIMITED,
        wait_s=60,
    ),
    Row("§17.4 no Retry-After", f"{LIMITED}{NO_WAIT}", Kind.RATE_LIMITED),
    Row(
        "§17.4 Retry-After of a poll in seconds",
        "[[poll:rate_limit_exceeded]][[retry-after:7]]",
        end=PollFailed,
        wait_s=7,
    ),
    Row(
        "§17.4 Retry-After of a poll as a date",
        "[[poll:service_unavailable]][[retry-after:date:60]]",
        end=PollFailed,
        wait_s=60,
    ),
    Row("§17.4 slow", "[[created:slow:0.1]]", end=Finished),
    Row("§17.4 too slow", "[[created:late:5]]", Unknown),
    Row("§17.4 dropped, and created", "[[drop-response]]", Unknown),
    Row("§17.4 dropped, and not created", "[[drop-before]]", Unknown),
    Row("§17.4 fewer pictures than n", "[[images:1]]", end=Finished, body=GPT_2 | {"n": 3}),
    Row("§17.4 completed and empty", "[[empty-results]]", end=Finished),
    Row("§17.4 failed without error", "[[failed-without-error]]", end=Kind.GENERATION_FAILED),
    Row("§17.4 an unknown status", "[[unknown-status]][[latency:60]]", end=Running),
    Row("§17.4 expired is 404", "[[expired:404]]", end=Missing),
    Row("§17.4 expired is 410", "[[expired:410]]", end=Missing),
    Row(
        "§17.5 no credits left",
        submit=Kind.INSUFFICIENT_FUNDS,
        settings=(("credits_balance", 0),),
    ),
    Row("§17.6 a reference that is not there", end=Kind.BAD_REFERENCE, body=UNREACHABLE),
    # More at a time, and more a second, than the account may.
    Row(
        "§17.5 too fast",
        submit=Kind.RATE_LIMITED,
        settings=(("submits_per_second", 0.001), ("retry_after", RetryAfter.DATE)),
        wait_s=2,
    ),
)

#: §18, by the number of what is unknown: each way it may turn out.
UNKNOWNS = (
    Row("§18.1 cached counts", "[[shape:cached]]", end=Finished),
    Row("§18.1 no counts", "[[shape:docs]]", end=Finished),
    Row("§18.2 data URLs are refused", submit=Kind.BAD_REFERENCE, body=INLINE),
    Row(
        "§18.2 data URLs are taken",
        "[[rules:data-urls]][[references:ignored]]",
        end=Finished,
        body=INLINE,
    ),
    Row("§18.3 n is 1 only", submit=Kind.INVALID_REQUEST, body={"n": 3}),
    Row("§18.3 n is more", "[[rules:other]]", end=Finished, body={"n": 3}),
    Row("§18.4 an unknown parameter is ignored", end=Finished, body={"seed": 1}),
    Row("§18.4 null is absent", end=Finished, body={"n": None}),
    Row("§18.4 no references are refused", submit=Kind.BAD_REFERENCE, body={"image_urls": []}),
    Row(
        "§18.4 no references are none",
        "[[rules:empty-references]]",
        end=Finished,
        body={"image_urls": []},
    ),
    Row("§18.4 n is 0", submit=Kind.INVALID_REQUEST, body={"n": 0}),
    Row("§18.4 n is 0 and ignored", "[[rules:lenient]]", end=Finished, body={"n": 0}),
    Row("§18.4 a wrong type", submit=Kind.INVALID_REQUEST, body={"size": 7}),
    Row("§18.4 a wrong type is ignored", "[[rules:lenient]]", end=Finished, body={"size": 7}),
    Row(
        "§18.5 a bad reference is told at once",
        "[[references:submit]]",
        Kind.BAD_REFERENCE,
        body=UNREACHABLE,
    ),
    Row(
        "§18.5 a bad reference fails the task",
        "[[references:task]]",
        end=Kind.BAD_REFERENCE,
        body=UNREACHABLE,
    ),
    Row(
        "§18.5 a bad mask fails the task",
        "[[fail:invalid_parameters]]"
        "[[message:Invalid mask image format - mask size does not match image size]]",
        end=Kind.BAD_REFERENCE,
    ),
    Row("§18.6 a 429 without Retry-After", f"{LIMITED}{NO_WAIT}", Kind.RATE_LIMITED),
    Row("§18.6 a 429 with it", LIMITED, Kind.RATE_LIMITED, wait_s=2),
    Row("§18.7 cancelled by others", "[[status:cancelled]]", end=Kind.CANCELLED),
    Row("§18.8 404 after expiry", "[[expired:404]]", end=Missing),
    Row("§18.8 410 after expiry", "[[expired:410]]", end=Missing),
    Row("§18.11 a body too large", "[[submit:request_too_large]]", Kind.BAD_REFERENCE),
    Row("§18.12 progress rises", "[[progress:rising]][[stuck:processing]]", end=Running),
    Row("§18.12 progress falls", "[[progress:falling]][[stuck:processing]]", end=Running),
    Row("§18.12 no progress", "[[progress:absent]][[stuck:processing]]", end=Running),
    Row("§18.14 answers name another model", "[[model:gpt-image-9]]", end=Finished),
    Row("§18.14 the model is gone", submit=Kind.UPSTREAM_DOWN, body={"model": "gpt-image-9"}),
    Row("§18.17 not a field more", "[[shape:bare]]", end=Finished),
    Row("§18.17 all others are null", "[[shape:nulls]]", end=Finished),
    Row("§18.17 fields nobody knows", "[[shape:extra]]", end=Finished),
    Row("§18.17 failed, not a field more", "[[fail:service_error]][[shape:bare]]", end=Failed),
)


class World:
    """A provider and a fetcher on real clients, and simulators they can be sent to."""

    def __init__(self, stack: AsyncExitStack, clients: list[httpx.AsyncClient]) -> None:
        self._stack = stack
        self._submit_client, self._poll_client, self._fetch_client = clients
        self.converter = Converter()
        self._urls: dict[tuple[tuple[str, object], ...], str] = {}

    async def url(self, *settings: tuple[str, object]) -> str:
        """Return a simulator with these settings; one that was started serves again."""
        if settings not in self._urls:
            served = serving_simulator(self.quick(*settings))
            self._urls[settings] = await self._stack.enter_async_context(served)
        return self._urls[settings]

    def quick(self, *settings: tuple[str, object]) -> SimulatorSettings:
        """Return these settings of a simulator that is done at once."""
        quick = {"latency_median_s": 0.0, "latency_sigma": 0.0, "seed": 7}
        return SimulatorSettings(**quick | dict(settings))  # type: ignore[arg-type]

    async def provider(
        self, *settings: tuple[str, object], timeout_s: float = 20.0
    ) -> EvolinkProvider:
        """Return the provider for such a simulator."""
        return self.provider_at(await self.url(*settings), timeout_s)

    def provider_at(self, url: str, timeout_s: float = 20.0) -> EvolinkProvider:
        """Return the provider for what serves there."""
        account = EvolinkSettings(
            name="evolink",
            base_url=url,
            api_key="sk-evo-secret",
            submit_timeout_s=timeout_s,
            poll_timeout_s=timeout_s,
        )
        return EvolinkProvider(
            account,
            submit_client=self._submit_client,
            poll_client=self._poll_client,
            clock=SystemClock(),
        )

    def fetcher(self, folder: Path, url: str) -> HttpPictureFetcher:
        """Return the fetcher that a simulator's links are let to."""
        hosts = frozenset([url.removeprefix("http://")])
        settings = FetchSettings(result_hosts=hosts, allow_http=True, total_timeout_s=60.0)
        store = ObjectAssetStore.open(AssetPlace(url=f"file:{folder}"))
        return HttpPictureFetcher(
            *(self._fetch_client, store, self.converter, settings, SystemClock()), spool_dir=folder
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    """Keep clients and simulators for all rows."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(client)
            for client in (build_submit_client(), build_poll_client(), build_fetch_client())
        ]
        world = World(stack, clients)
        stack.callback(world.converter.close)
        yield world


def order(markers: str = "", body: dict[str, object] = NOTHING) -> SubmitOrder:
    """Return what the provider sends for a low square of gpt-image-1.5, with other fields."""
    whole = {
        "model": "gpt-image-1.5",
        "prompt": f"a small red fox {markers}",
        "size": "1024x1024",
        "quality": "low",
    }
    return SubmitOrder(provider="evolink", account="evolink:abc", body=whole | body)


async def end_of(
    provider: EvolinkProvider, submitted: SubmitOutcome, expected: object = Finished
) -> PollOutcome:
    """Poll what was accepted; again while references are fetched, and nobody expects it to run."""
    assert isinstance(submitted, Accepted)
    outcome = await provider.poll(submitted.upstream_id)
    for _ in range(500):
        if expected is Running or not isinstance(outcome, Running):
            break
        await asyncio.sleep(0.02)
        outcome = await provider.poll(submitted.upstream_id)
    return outcome


ROWS = (*envelopes(), *refusals(), *CONTRADICTIONS, *lives(), *FAULTS, *UNKNOWNS)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.place) for row in ROWS])
async def test_row(world: World, row: Row) -> None:
    """What is played is read as what it means."""
    timeout_s = SHORT_S if "too slow" in row.place else 20.0
    provider = await world.provider(*row.settings, timeout_s=timeout_s)
    if "too fast" in row.place:
        await provider.submit(order(), idempotency_key="first")
    last: SubmitOutcome | PollOutcome = await provider.submit(
        order(row.markers, row.body), idempotency_key=f"key of {row.place}".replace("§", "")
    )

    assert row.submit == told(last)
    if row.end is not None:
        last = await end_of(provider, last, row.end)
        assert row.end == (Failed if row.end is Failed else told(last))
    if isinstance(last, Rejected | PollFailed):
        assert row.wait_s == pytest.approx(last.retry_after_s, abs=10.0)
    if isinstance(last, Finished):
        assert bool(last.links) == ("empty" not in row.place)


async def test_every_contradiction_has_a_row() -> None:
    """§14 has 28 of them; what is elsewhere says where."""
    here = {int(row.place.split()[0].partition(".")[2]) for row in CONTRADICTIONS}

    assert set(range(1, 29)) == here | NOT_HERE.keys()
    assert not here & NOT_HERE.keys()


async def test_credits_are_read_as_they_were_billed(world: World) -> None:
    """§14.7, §14.23 and §18.13: exact credits in each shape, at any rate of the dollar."""
    read = {}
    for shape in (Shape.LIVE, Shape.COST, Shape.MOCK, Shape.CACHED, Shape.DATA_ONLY, Shape.DOCS):
        provider = await world.provider(("credits_per_usd", 72))
        submitted = await provider.submit(order(f"[[shape:{shape}]]"), idempotency_key=shape)
        outcome = await end_of(provider, submitted)
        assert isinstance(outcome, Finished)
        read[shape] = outcome.credits_used
    async with httpx.AsyncClient(base_url=await world.url(("credits_per_usd", 72))) as client:
        [*_, first] = (await client.get("/_sim/tasks")).json()["tasks"]

    billed = Fraction(repr(first["credits"]))
    assert billed > 0
    assert dict.fromkeys(read, billed) | {Shape.DOCS: None} == read


async def test_tokens_are_read_where_they_are_told(world: World) -> None:
    """§18.1: counts of the live shape; none where there are none."""
    provider = await world.provider()
    seen = []
    for shape in (Shape.LIVE, Shape.MOCK, Shape.DOCS):
        submitted = await provider.submit(order(f"[[shape:{shape}]]"), idempotency_key=shape)
        outcome = await end_of(provider, submitted)
        assert isinstance(outcome, Finished)
        seen.append(outcome.usage)

    assert [TokenUsage(text_input=4, image_output=272), None, None] == seen


async def test_created_tells_how_long_and_how_much(world: World) -> None:
    """§14.8 and §17.1: the estimate, and what is set aside as it was written."""
    provider = await world.provider()
    usual = await provider.submit(order(), idempotency_key="a")
    old = await provider.submit(order("[[shape:quickstart]]"), idempotency_key="b")

    assert isinstance(usual, Accepted)
    assert isinstance(old, Accepted)
    assert 100.0 == usual.estimate_s
    assert usual.credits_reserved is not None
    assert 1000 * usual.credits_reserved == old.credits_reserved


@pytest.mark.parametrize(
    ("mode", "again", "other"),
    [(Idempotency.IGNORED, "another", Accepted), (Idempotency.REPLAYED, "the same", Unknown)],
)
async def test_a_key_that_is_used_twice(
    world: World, mode: Idempotency, again: str, other: type
) -> None:
    """§18.9 and §17.4: a replay is the same task; a conflict proves nothing."""
    provider = await world.provider(("idempotency", mode))
    first, second = [await provider.submit(order(), idempotency_key="key") for _ in range(2)]
    conflict = await provider.submit(order("[[label:other]]"), idempotency_key="key")

    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert (again == "the same") == (first.upstream_id == second.upstream_id)
    assert other is type(conflict)


async def test_what_is_composed_is_taken_by_every_rule(world: World) -> None:
    """§14.9 to §14.11, §14.28 and §18.4: nothing is sent that any version refuses."""
    provider = await world.provider()
    picture = Picture(Operation.GENERATION, "a fox", SQUARE, "low")
    composed = provider.compose(an_offer(), picture)
    refused = {}
    for rules in (
        "",
        "[[rules:other]]",
        "[[rules:no-unknown]]",
        "[[rules:other]][[rules:no-unknown]]",
    ):
        body = composed.body | {"prompt": f"a fox {rules}"}
        outcome = await provider.submit(order(body=body), idempotency_key=f"key{rules}")
        if not isinstance(outcome, Accepted):
            refused[rules] = outcome

    assert {} == refused


@pytest.mark.parametrize(
    ("markers", "expected"),
    [
        ("", PictureFormat.PNG),
        ("[[result:other-size]]", PictureFormat.PNG),
        ("[[result:other-format]]", PictureFormat.PNG),
        ("[[result:opaque]]", PictureFormat.PNG),
        ("[[result:untyped]]", PictureFormat.PNG),
        ("[[result:slow:0.1]]", PictureFormat.PNG),
        ("[[result:403]]", LinkDeadError),
        ("[[result:404]]", LinkDeadError),
        ("[[result:410]]", LinkDeadError),
        ("[[result:not-image]]", LinkDeadError),
        ("[[result:429]]", LinkUnavailableError),
        ("[[result:500]]", LinkUnavailableError),
        ("[[result:503]]", LinkUnavailableError),
        ("[[result:html]]", LinkUnavailableError),
        ("[[result:empty]]", LinkUnavailableError),
        ("[[result:cut]]", LinkUnavailableError),
        ("[[result:drop]]", LinkUnavailableError),
    ],
)
async def test_result_files(world: World, tmp_path: Path, markers: str, expected: object) -> None:
    """§11, §17.3, §18.8 and §18.15: whatever the file host answers to a link."""
    provider, url = await world.provider(), await world.url()
    outcome = await end_of(provider, await provider.submit(order(markers), idempotency_key=markers))
    assert isinstance(outcome, Finished)
    try:
        fetched = await world.fetcher(tmp_path, url).ingest(outcome.links[0], "a", PLAIN_PNG)
        read: object = fetched.picture.format
    except (LinkDeadError, LinkUnavailableError) as error:
        read = type(error)

    assert expected == read


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_links_end(world: World, tmp_path: Path, status: int) -> None:
    """§17.3: a link that has expired is dead, by whichever status it says so."""
    settings = (("result_keep_s", 0.0), ("expired_result_status", status))
    provider, url = await world.provider(*settings), await world.url(*settings)
    outcome = await end_of(provider, await provider.submit(order(), idempotency_key="a"))
    assert isinstance(outcome, Finished)

    with pytest.raises(LinkDeadError):
        await world.fetcher(tmp_path, url).ingest(outcome.links[0], "a", PLAIN_PNG)


@pytest.mark.parametrize(
    "base",
    [
        "https://media.evolink.ai",
        "https://tempfile.aiquickdraw.com",
        "https://x.tos.volces.com",
        "gs://evolink-video-ev02-a",
        "http://169.254.169.254",
    ],
)
async def test_result_hosts(world: World, tmp_path: Path, base: str) -> None:
    """§14.22: links to any host are read; only those are fetched that the settings name."""
    provider, url = await world.provider(), await world.url()
    submitted = await provider.submit(order(f"[[links:{base}]]"), idempotency_key=base)
    outcome = await end_of(provider, submitted)

    assert isinstance(outcome, Finished)
    assert outcome.links[0].startswith(base)
    with pytest.raises(LinkDeadError):
        await world.fetcher(tmp_path, url).ingest(outcome.links[0], "a", PLAIN_PNG)


async def test_a_file_of_faults(world: World, tmp_path: Path) -> None:
    """§17.4: what a file says is played to whoever comes, without a word in a prompt."""
    plays = {
        "submit": "[[submit:rate_limit_exceeded]][[retry-after:date:60]]",
        "poll": "[[poll:upstream_error]][[envelope:integer]]",
        "result": "[[result:503]]",
    }
    rules = [{"route": route, "play": play, "first": 1} for route, play in plays.items()]
    outcomes: list[object] = []
    async with serving_simulator(world.quick(), read_rules({"rules": rules})) as url:
        provider, fetcher = world.provider_at(url), world.fetcher(tmp_path, url)
        outcomes += [told(await provider.submit(order(), idempotency_key="a"))]
        submitted = await provider.submit(order(), idempotency_key="b")
        assert isinstance(submitted, Accepted)
        outcomes += [told(await provider.poll(submitted.upstream_id))]
        finished = await provider.poll(submitted.upstream_id)
        assert isinstance(finished, Finished)
        with pytest.raises(LinkUnavailableError):
            await fetcher.ingest(finished.links[0], "a", PLAIN_PNG)
        fetched = await fetcher.ingest(finished.links[0], "a", PLAIN_PNG)

    assert [Kind.RATE_LIMITED, PollFailed] == outcomes
    assert PictureFormat.PNG is fetched.picture.format
