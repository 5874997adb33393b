"""`/v1/images/tasks`: list, show and cancel a team's tasks, and fetch what nobody fetched."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.access.interface import KeyDirectory
from gateway.assets.interface import AssetStore
from gateway.domain.accounts import Caller
from gateway.domain.errors import InvalidRequest
from gateway.domain.money import format_usd
from gateway.domain.task import Task
from gateway.edge.auth import authenticate
from gateway.edge.record import record_of
from gateway.edge.render import CHUNK_BYTES, around, opened, pictures_of, streamed, usage_of
from gateway.edge.render import usage_fields as usage_json
from gateway.service.images import error_of
from gateway.service.tasks import MAX_PAGE, PAGE, Status, TaskService, render_status, status_of
from gateway.tasks.live import Outcome

#: Turns a stored picture's key into a link that anybody may open for a while.
Link = Callable[[str], str]


class TaskRoutes:
    """Handlers for tasks; another team's task is 404."""

    def __init__(
        self, *, keys: KeyDirectory, tasks: TaskService, assets: AssetStore, help_url: str
    ) -> None:
        self._keys = keys
        self._tasks = tasks
        self._assets = assets
        self._help_url = help_url

    async def list_tasks(self, request: Request) -> Response:
        """Return a page of the team's tasks, the newest first, without their pictures."""
        caller = await self._caller(request)
        query = request.query_params
        limit = _limit(query.get("limit", str(PAGE)))
        tasks = await self._tasks.newest(caller, after=query.get("after", ""), limit=limit)
        page = {
            "object": "list",
            "data": [task_fields(task) for task in tasks],
            "first_id": tasks[0].id if tasks else None,
            "last_id": tasks[-1].id if tasks else None,
            "has_more": len(tasks) == limit,
        }
        return Response(orjson.dumps(page), media_type="application/json")

    async def show(self, request: Request) -> Response:
        """Return a task, with its pictures once they are there (`?data=false` leaves them out)."""
        caller = await self._caller(request)
        with_pictures = _boolean("data", request.query_params.get("data", "true"))
        task = await self._tasks.show(caller, request.path_params["task"])
        record_of(request).task = task.id
        if not with_pictures:
            return Response(orjson.dumps(task_fields(task)), media_type="application/json")
        return await self.answer(task)

    async def answer(self, task: Task, *, status_code: int = 200) -> Response:
        """Return a task with its pictures, as chunks."""
        pictures = pictures_of(Outcome(task))
        body = task_fields(task) | {"data": [{"b64_json": ""} for _ in pictures]}
        pieces = [
            await opened(self._assets.read(picture.key, chunk_bytes=CHUNK_BYTES))
            for picture in pictures
        ]
        length, chunks = streamed(around(body), pictures, pieces)
        return StreamingResponse(
            chunks,
            status_code=status_code,
            headers={"content-length": str(length)},
            media_type="application/json",
        )

    async def cancel(self, request: Request) -> Response:
        """Cancel what was not submitted yet; what was goes on, and may be charged."""
        caller = await self._caller(request)
        task = await self._tasks.cancel(caller, request.path_params["task"])
        record_of(request).task = task.id
        return Response(orjson.dumps(task_fields(task)), media_type="application/json")

    async def _caller(self, request: Request) -> Caller:
        return await authenticate(request, self._keys, self._help_url)


def task_fields(task: Task) -> dict[str, object]:
    """Return a task as JSON, without its pictures."""
    outcome = Outcome(task)
    status = status_of(task)
    body: dict[str, object] = {
        "id": task.id,
        "object": "image.task",
        "status": status,
        "created": task.created_ms // 1000,
        "completed": task.ended_ms // 1000 or None,
        "model": task.model,
        "operation": task.operation,
        "size": task.size,
        "quality": task.quality,
        "n": len(task.renders),
        "key": task.key_name,
        "provider": task.order.provider,
        "cost_usd": format_usd(outcome.cost_microusd),
        "renders": [
            {
                "index": render.index,
                "status": render_status(render),
                "cost_usd": format_usd(render.result.cost_microusd) if render.result else None,
                "error": _failure(render.result.failure) if render.result else None,
            }
            for render in task.renders
        ],
        "error": None,
    }
    usage = usage_of(outcome)
    if usage is not None:
        body["usage"] = usage_json(usage)
    if status in (Status.FAILED, Status.CANCELLED, Status.UNKNOWN):
        body["error"] = {"message": error_of(outcome).message, "code": _failure_of(task)}
    return body


def _failure(kind: object) -> str | None:
    return None if kind is None else str(kind)


def _failure_of(task: Task) -> str | None:
    kinds = [render.result.failure for render in task.renders if render.result is not None]
    return next((str(kind) for kind in kinds if kind is not None), "result_lost")


def _boolean(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidRequest(
            f"Invalid '{name}': expected true or false.", param=name, code="invalid_value"
        )
    return text == "true"


def _limit(text: str) -> int:
    # The length first: Python reads no number of thousands of digits.
    is_number = len(text) <= len(str(MAX_PAGE)) and text.isascii() and text.isdecimal()
    if not (is_number and 1 <= int(text) <= MAX_PAGE):
        raise InvalidRequest(
            f"Invalid 'limit': expected a whole number from 1 to {MAX_PAGE}.",
            param="limit",
            code="invalid_value",
        )
    return int(text)
