"""EvoLink as a provider (protocols/evolink.md §2–§4, §8, §9, §13)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from urllib.parse import quote

import httpx
import orjson

from gateway.domain.catalog import TRANSPARENT, Offer, SizeWords
from gateway.domain.clock import Clock
from gateway.domain.images import Picture, PictureFormat, Size
from gateway.domain.sizes import RatioSizes
from gateway.domain.task import SubmitOrder
from gateway.providers.evolink_shapes import (
    is_task_id,
    read_balance,
    read_list,
    read_poll,
    read_submit,
)
from gateway.providers.interface import (
    BalanceOutcome,
    Listed,
    ListOutcome,
    NoBalance,
    NoList,
    NotSent,
    PollFailed,
    PollOutcome,
    SubmitOutcome,
    Unknown,
)
from gateway.providers.wire import Answer, NeverSent, NoAnswer, Reply, exchange

#: The list is read in pages as large as EvoLink's own client reads them (§5), and not for ever.
_PAGE_SIZE, _MAX_PAGES = 50, 200

#: Called once per HTTP call with "submit", "poll", "credits" or "list" and an HTTP status,
#: "not_sent" or "no_answer".
Observe = Callable[[str, str], None]


def _tell_size(body: dict[str, object], offer: Offer, size: Size) -> None:
    wording = offer.wording
    match wording.size:
        case SizeWords.PIXELS:
            body["size"] = str(size)
        case SizeWords.RATIO:
            name = offer.sizes.name_of(size) if isinstance(offer.sizes, RatioSizes) else None
            if name is None:
                raise ValueError(f"{offer.upstream_model} has no name for {size}")
            body["size"] = name.ratio
            if wording.tier_field:
                body[wording.tier_field] = name.tier
        case SizeWords.NONE:
            pass


def _best_format(offer: Offer, picture: Picture, *, transparent: bool) -> PictureFormat:
    """Return the format that is asked for where it is made, else one that can be converted."""
    made = [each for each in offer.formats if not (transparent and each is PictureFormat.JPEG)]
    wanted = [each for each in made if each == picture.output_format]
    return (*wanted, *made)[0]


def _put(body: dict[str, object], name: str, value: str) -> None:
    """Write a field; one with a dot is a field inside of an object."""
    outer, _, inner = name.partition(".")
    body[outer] = {inner: value} if inner else value


@dataclass(frozen=True, slots=True)
class EvolinkSettings:
    """One account at EvoLink, or at anything that speaks its protocol.

    A submit gets much longer than its usual second or two: giving up early leaves a render that
    nobody can account for. ValueError for a `base_url` or key that cannot be sent.
    """

    name: str
    base_url: str
    api_key: str = field(repr=False)
    min_poll_interval_s: float = 1.0
    submit_timeout_s: float = 90.0
    poll_timeout_s: float = 15.0
    proves_idempotency: bool = False

    def __post_init__(self) -> None:
        if not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key.strip()):
            raise ValueError("the API key must be printable ASCII and not empty")
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            raise ValueError("base_url is not a URL") from None
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
            raise ValueError("base_url must look like https://host, without user or query")

    @property
    def account(self) -> str:
        """The account in words that may be stored: the name and a short hash of the key."""
        return f"{self.name}:{hashlib.sha256(self.api_key.encode()).hexdigest()[:12]}"


@lru_cache(maxsize=8192)
def _url(text: str) -> httpx.URL:
    """Read a URL once for all polls of a task: it costs a sixth of a poll."""
    return httpx.URL(text)


class EvolinkProvider:
    """One account at EvoLink. Both clients are the caller's, who closes them.

    `submit_client` must open a connection of its own for each call (`build_submit_client`).
    """

    def __init__(
        self,
        settings: EvolinkSettings,
        *,
        submit_client: httpx.AsyncClient,
        poll_client: httpx.AsyncClient,
        clock: Clock,
        observe: Observe | None = None,
    ) -> None:
        self._submit_client = submit_client
        self._poll_client = poll_client
        self._clock = clock
        self._observe = observe
        self._base_url = settings.base_url.rstrip("/")
        self._use(settings)

    def use_key(self, api_key: str) -> None:
        """Ask by this key from the next call on. ValueError for one that cannot be sent."""
        self._use(replace(self._settings, api_key=api_key))

    def _use(self, settings: EvolinkSettings) -> None:
        self._settings = settings
        self._authorization = {"authorization": f"Bearer {settings.api_key}"}
        # A request built by its client, for every poll to take over: merging costs much of one.
        self._poll = self._poll_client.build_request(
            "GET", f"{self._base_url}/v1/tasks", headers=self._authorization
        )

    @property
    def account(self) -> str:
        """The account and its key of today, in words that may be stored."""
        return self._settings.account

    @property
    def name(self) -> str:
        """The name of its section in the configuration."""
        return self._settings.name

    @property
    def min_poll_interval_s(self) -> float:
        """Seconds; reading an unfinished task makes EvoLink ask its own upstream (§4.1)."""
        return self._settings.min_poll_interval_s

    @property
    def proves_idempotency(self) -> bool:
        """Whether the configuration says that EvoLink honours `Idempotency-Key` (§13: unproven)."""
        return self._settings.proves_idempotency

    def compose(self, offer: Offer, picture: Picture) -> SubmitOrder:
        """Return the body of §2, in the words of the offer's upstream model.

        Size and quality are told whenever there is a word for them, because defaults differ by
        version. `n` is left out: its default is 1 wherever it exists, and not every model has it.
        """
        body: dict[str, object] = {"model": offer.upstream_model, "prompt": picture.prompt}
        _tell_size(body, offer, picture.size)
        if offer.wording.has_quality:
            body["quality"] = picture.quality
        transparent = picture.background == TRANSPARENT
        if transparent:
            body["background"] = TRANSPARENT
        asked = _best_format(offer, picture, transparent=transparent)
        if offer.wording.format_field and asked is not offer.formats[0]:
            _put(body, offer.wording.format_field, asked.value)
        return SubmitOrder(provider=self._settings.name, account=self._settings.account, body=body)

    def with_callback(self, order: SubmitOrder, url: str) -> SubmitOrder:
        """Return the order with a `callback_url`; EvoLink takes HTTPS only (§8)."""
        if not url.startswith("https://") and self._base_url.startswith("https://"):
            return order
        return replace(order, body=order.body | {"callback_url": url})

    def with_references(self, order: SubmitOrder, urls: Sequence[str]) -> SubmitOrder:
        """Return the order with `image_urls`, and `mask_url` where it has a mask (§2.3)."""
        if order.references.mask is None:
            return replace(order, body=order.body | {"image_urls": [*urls]})
        *pictures, mask = urls
        return replace(order, body=order.body | {"image_urls": pictures, "mask_url": mask})

    async def submit(self, order: SubmitOrder, *, idempotency_key: str) -> SubmitOutcome:
        """Post the order once, whatever happens."""
        request = self._submit_client.build_request(
            "POST",
            f"{self._base_url}/v1/images/generations",
            content=orjson.dumps(order.body),
            headers={
                **self._authorization,
                "content-type": "application/json",
                "idempotency-key": idempotency_key,
            },
        )
        reply = await exchange(
            self._submit_client,
            request,
            total_s=self._settings.submit_timeout_s,
            clock=self._clock,
        )
        self._count("submit", reply)
        match reply:
            case NeverSent(reason):
                return NotSent(reason)
            case NoAnswer(reason):
                return Unknown(reason)
            case Answer():
                return read_submit(reply)

    async def poll(self, upstream_id: str) -> PollOutcome:
        """Ask once how the task stands."""
        if not is_task_id(upstream_id):
            return PollFailed(reason="the task id cannot be put into a URL")
        request = httpx.Request(
            "GET",
            _url(f"{self._base_url}/v1/tasks/{quote(upstream_id, safe='')}"),
            headers=self._poll.headers,
            extensions=self._poll.extensions,
        )
        reply = await exchange(
            self._poll_client, request, total_s=self._settings.poll_timeout_s, clock=self._clock
        )
        self._count("poll", reply)
        match reply:
            case NeverSent(reason) | NoAnswer(reason):
                return PollFailed(reason)
            case Answer():
                return read_poll(reply, upstream_id)

    async def balance(self) -> BalanceOutcome:
        """Ask once for the credits of the account and of the key (§8)."""
        request = self._poll_client.build_request(
            "GET", _url(f"{self._base_url}/v1/credits"), headers=self._authorization
        )
        reply = await exchange(
            self._poll_client, request, total_s=self._settings.poll_timeout_s, clock=self._clock
        )
        self._count("credits", reply)
        match reply:
            case NeverSent(reason) | NoAnswer(reason):
                return NoBalance(reason)
            case Answer():
                return read_balance(reply)

    async def list_since(self, since_s: int) -> ListOutcome:
        """Read the list page by page, the newest first, until it is older (§5; undocumented)."""
        found: dict[str, Listed] = {}
        for page in range(1, _MAX_PAGES + 1):
            request = self._poll_client.build_request(
                "GET",
                _url(f"{self._base_url}/v1/tasks?type=image&page={page}&page_size={_PAGE_SIZE}"),
                headers=self._authorization,
            )
            reply = await exchange(
                self._poll_client, request, total_s=self._settings.poll_timeout_s, clock=self._clock
            )
            self._count("list", reply)
            match reply:
                case NeverSent(reason) | NoAnswer(reason):
                    return NoList(reason)
                case Answer():
                    pass
            told = read_list(reply)
            if isinstance(told, NoList):
                return told
            rows, count = told
            # Tasks that are made meanwhile move others to the next page: each counts once.
            found |= {row.upstream_id: row for row in rows if row.created_s >= since_s}
            if count < _PAGE_SIZE or (rows and rows[-1].created_s < since_s):
                return tuple(found.values())
        return NoList(f"there are more than {_MAX_PAGES * _PAGE_SIZE} tasks")

    def _count(self, call: str, reply: Reply) -> None:
        if self._observe is None:
            return
        match reply:
            case NeverSent():
                self._observe(call, "not_sent")
            case NoAnswer():
                self._observe(call, "no_answer")
            case Answer(status):
                self._observe(call, str(status))
