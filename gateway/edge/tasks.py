"""`/v1/images/tasks`: list, show and cancel a team's tasks, and fetch what nobody fetched."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.access.interface import KeyDirectory
from gateway.assets.interface import AssetStore
from gateway.domain.accounts import Caller
from gateway.domain.errors import InvalidRequest
from gateway.domain.task import Task
from gateway.edge.auth import authenticate
from gateway.edge.record import record_of
from gateway.edge.render import CHUNK_BYTES, around, opened, pictures_of, streamed
from gateway.service.task_json import task_fields
from gateway.service.tasks import MAX_PAGE, PAGE, TaskService
from gateway.tasks.live import Outcome


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
        task = await self._tasks.show(caller, request.path_params["task"])
        record_of(request).task = task.id
        if request.query_params.get("data") == "false":
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
            self._until_fetched(task, chunks) if pictures else chunks,
            status_code=status_code,
            headers={"content-length": str(length)},
            media_type="application/json",
        )

    async def _until_fetched(
        self, task: Task, chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
        self._tasks.fetched(task)

    async def cancel(self, request: Request) -> Response:
        """Cancel what was not submitted yet; what was goes on, and may be charged."""
        caller = await self._caller(request)
        task = await self._tasks.cancel(caller, request.path_params["task"])
        record_of(request).task = task.id
        return Response(orjson.dumps(task_fields(task)), media_type="application/json")

    async def _caller(self, request: Request) -> Caller:
        return await authenticate(request, self._keys, self._help_url)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_PAGE):
        raise InvalidRequest(
            f"Invalid 'limit': expected a whole number from 1 to {MAX_PAGE}.",
            param="limit",
            code="invalid_value",
        )
    return int(text)
