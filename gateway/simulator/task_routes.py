"""The routes that read tasks and credits (protocols/evolink.md §4, §5, §8)."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.simulator import errors, wire
from gateway.simulator.courier import Courier
from gateway.simulator.errors import Problem, RefusedError, invalid_request
from gateway.simulator.refusals import Refusals
from gateway.simulator.replies import distorted
from gateway.simulator.requests import base_url, json_response
from gateway.simulator.rules import Stage
from gateway.simulator.script import Script
from gateway.simulator.settings import SimulatorSettings
from gateway.simulator.tasks import PREFIX, View
from gateway.simulator.world import World

_BATCH_MOST = 50
_PAGE_MOST = 50
_GONE = 410
#: The list's filter does not tell queued tasks from running ones (§5).
_RUNNING = frozenset({"pending", "processing"})

Work = Callable[[Request], Awaitable[Response]]


class TaskRoutes:
    """Answer what reads one world."""

    def __init__(
        self,
        settings: SimulatorSettings,
        world: World,
        stage: Stage,
        refusals: Refusals,
        courier: Courier,
    ) -> None:
        self._settings = settings
        self._world = world
        self._stage = stage
        self._refusals = refusals
        self._courier = courier

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/tasks/batch", self.batch, methods=["POST"]),
            Route("/v1/tasks/{task_id}", self.poll, methods=["GET"]),
            Route("/v1/tasks", self.page, methods=["GET"]),
            Route("/v1/credits", self.credits, methods=["GET"]),
        ]

    async def poll(self, request: Request) -> Response:
        """Answer ``GET /v1/tasks/{task_id}``."""
        return await self._answered("poll", request, self._poll, errors.QUERY_UNAUTHORIZED)

    async def batch(self, request: Request) -> Response:
        """Answer ``POST /v1/tasks/batch``: tasks by id, without those that are not there."""
        return await self._answered("batch", request, self._batch, errors.QUERY_UNAUTHORIZED)

    async def page(self, request: Request) -> Response:
        """Answer ``GET /v1/tasks``: one page of the account's tasks, the newest first."""
        return await self._answered("list", request, self._page, errors.QUERY_UNAUTHORIZED)

    async def credits(self, request: Request) -> Response:
        """Answer ``GET /v1/credits``."""
        return await self._answered("credits", request, self._credits, errors.CREDITS_UNAUTHORIZED)

    async def _answered(
        self, route: str, request: Request, work: Work, unauthorized: Problem
    ) -> Response:
        """Play the rules of a route around the proper answer."""
        try:
            self._refusals.authorize(request, unauthorized)
            script = self._stage.next(route)
        except RefusedError as refusal:
            return self._refusals.answer(refusal.problem, Script())
        refuse = partial(self._refusals.answer, script=script)
        try:
            proper = await work(request)
        except RefusedError as refusal:
            proper = refuse(refusal.problem)
        self._courier.wake()
        return proper if script.other is None else await distorted(script.other, proper, refuse)

    async def _poll(self, request: Request) -> Response:
        task_id = request.path_params["task_id"]
        seen = self._world.poll(task_id)
        if not task_id.startswith(PREFIX):
            raise RefusedError(errors.INVALID_TASK_ID)
        if seen is None:
            gone = self._settings.expired_status == _GONE and self._world.expired(task_id)
            raise RefusedError(errors.TASK_EXPIRED if gone else errors.TASK_NOT_FOUND)
        script = seen.task.script
        if script.expired is not None and seen.finished:
            gone = script.expired == _GONE
            raise RefusedError(errors.TASK_EXPIRED if gone else errors.TASK_NOT_FOUND)
        proper = json_response(self._task_body(seen, request))
        reply = self._world.plays(script.poll, "poll", task_id)
        if reply is None:
            return proper
        return await distorted(reply, proper, partial(self._refusals.answer, script=script))

    async def _batch(self, request: Request) -> Response:
        task_ids = _task_ids(await request.body())
        found = [seen for task_id in task_ids if (seen := self._world.look(task_id)) is not None]
        return json_response(
            {"code": 200, "data": [self._task_body(seen, request) for seen in found]}
        )

    async def _page(self, request: Request) -> Response:
        asked = request.query_params
        page, size = _whole(request, "page", 1), _whole(request, "page_size", 20)
        size = min(size, _PAGE_MOST)
        rows = [
            seen
            for seen in self._world.newest()
            if _fits(seen, asked.get("status"), asked.get("type"), asked.get("model"))
        ]
        shown = rows[(page - 1) * size : page * size]
        return json_response(wire.list_body(shown, total=len(rows), page=page, page_size=size))

    async def _credits(self, _: Request) -> Response:
        return json_response(wire.credits_body(self._world.account()))

    def _task_body(self, seen: View, request: Request) -> dict[str, Any]:
        shape = seen.task.script.shape or self._settings.shape
        return wire.task_body(
            seen,
            base_url(request, self._settings),
            shape,
            per_usd=self._settings.credits_per_usd,
        )


def _fits(seen: View, status: str | None, kind: str | None, model: str | None) -> bool:
    states = _RUNNING if status == "processing" else {status}
    return (
        (not status or seen.status in states)
        and kind in {None, "", "image"}
        and (not model or seen.task.model == model)
    )


def _task_ids(content: bytes) -> list[str]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise invalid_request("the body is not JSON") from None
    task_ids = body.get("task_ids") if isinstance(body, dict) else None
    if not isinstance(task_ids, list) or not 1 <= len(task_ids) <= _BATCH_MOST:
        raise invalid_request(f"task_ids must hold 1 to {_BATCH_MOST} ids", "task_ids")
    return [str(task_id) for task_id in task_ids]


def _whole(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise invalid_request(f"{name} must be a number from 1", name)
    return int(text)
