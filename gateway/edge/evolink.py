"""`/evolink/v1/*`: EvoLink's own surface, for clients that only change their base URL.

Every call that makes pictures is a task that nobody waits for; it goes the way of all others.
Fields, shapes and codes are protocols/evolink.md §2 to §5, §8 and §9.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.interface import KeyDirectory
from gateway.assets.interface import AssetUnavailableError
from gateway.domain.accounts import Caller
from gateway.domain.errors import InvalidRequest, StorageUnavailable
from gateway.domain.task import Surface, Task
from gateway.edge.auth import authenticate
from gateway.edge.evolink_edits import SubmitReader
from gateway.edge.evolink_fields import parse_batch
from gateway.edge.images import ImageRoutes
from gateway.edge.record import record_of
from gateway.service.calls import call_of
from gateway.service.evolink import Balance, EvolinkService, Wanted
from gateway.service.evolink_json import as_json, listed_body, task_body
from gateway.service.links import Links
from gateway.service.references import References

#: Tasks on one page at the most, and how many digits a page's number may have.
MAX_PAGE_SIZE, MAX_DIGITS = 50, 6

#: What a list may be narrowed to (protocols/evolink.md §5).
STATUSES = ("", "pending", "processing", "completed", "failed", "cancelled")


class EvolinkRoutes:
    """Handlers for EvoLink's clients; `orders` starts what they ask for."""

    def __init__(
        self,
        *,
        keys: KeyDirectory,
        submits: SubmitReader,
        references: References,
        orders: ImageRoutes,
        evolink: EvolinkService,
        links: Links,
        help_url: str,
    ) -> None:
        self._keys = keys
        self._submits = submits
        self._references = references
        self._orders = orders
        self._evolink = evolink
        self._links = links
        self._help_url = help_url

    async def generations(self, request: Request) -> Response:
        """Start a task and answer at once with how it stands."""
        record = record_of(request)
        caller = await self._caller(request)
        with self._references.spool() as spool:
            try:
                edit = await self._submits.read(request, spool)
            except AssetUnavailableError as error:
                raise StorageUnavailable from error
            record.model = edit.request.model
            call = call_of(
                caller,
                request.url.path,
                edit.request,
                waiter=record.request_id,
                retry_count="",
                idempotency_key=request.headers.get("idempotency-key", ""),
                base_url=str(request.base_url),
                detached=True,
                surface=Surface.EVOLINK,
            )
            task = await self._orders.order(request, caller, edit, spool, call)
        replayed = {"idempotency-replayed": "true"} if record.joined else {}
        return _answer(await self._body(request, task), replayed)

    async def show(self, request: Request) -> Response:
        """Return a task, with links to its pictures once they are there."""
        caller = await self._caller(request)
        task = await self._evolink.show(caller, request.path_params["task"])
        record_of(request).task = task.id
        return _answer(await self._body(request, task))

    async def batch(self, request: Request) -> Response:
        """Return several tasks at once, without those that do not exist."""
        caller = await self._caller(request)
        tasks = await self._evolink.batch(caller, parse_batch(await request.body()))
        return _answer({"code": 200, "data": [await self._body(request, task) for task in tasks]})

    async def list_tasks(self, request: Request) -> Response:
        """Return a page of the team's tasks, the newest first, without links."""
        caller = await self._caller(request)
        wanted = _wanted(request.query_params)
        page = await self._evolink.listed(caller, wanted)
        return _answer(
            {
                "object": "list",
                "total": page.total,
                "page": wanted.page,
                "page_size": wanted.page_size,
                "data": [listed_body(self._evolink.seen(task)) for task in page.tasks],
            }
        )

    async def credits(self, request: Request) -> Response:
        """Return what the key and its team have left and have used."""
        credits_ = await self._evolink.credits(await self._caller(request))
        key = _figures(credits_.key) | {"unlimited_credits": credits_.key.unlimited}
        figures = {"token": key, "user": _figures(credits_.team)}
        return _answer({"data": figures, "message": "", "success": True})

    async def _caller(self, request: Request) -> Caller:
        return await authenticate(request, self._keys, self._help_url)

    async def _body(self, request: Request, task: Task) -> dict[str, object]:
        urls = await self._links.urls(task, str(request.base_url))
        return task_body(self._evolink.seen(task), urls)


def _figures(balance: Balance) -> dict[str, object]:
    return {"remaining_credits": balance.remaining, "used_credits": balance.used}


def _wanted(query: QueryParams) -> Wanted:
    status = query.get("status", "")
    if status not in STATUSES:
        raise _invalid("status", f"one of {', '.join(STATUSES[1:])}")
    return Wanted(
        status=status,
        type=query.get("type", ""),
        model=query.get("model", ""),
        page=_whole(query, "page", 1, 10**MAX_DIGITS - 1),
        page_size=_whole(query, "page_size", 20, MAX_PAGE_SIZE),
    )


def _whole(query: QueryParams, name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if not is_number or not 1 <= int(text) <= most:
        raise _invalid(name, f"a whole number from 1 to {most}")
    return int(text)


def _invalid(name: str, expected: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{name}': expected {expected}.", param=name, code="invalid_value"
    )


def _answer(body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    return Response(as_json(body), headers=headers, media_type="application/json")
