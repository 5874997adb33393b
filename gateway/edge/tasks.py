"""`/v1/images/tasks`: list, show and cancel a team's tasks, and fetch what nobody fetched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.access.interface import KeyDirectory
from gateway.assets.interface import AssetStore
from gateway.domain.accounts import Caller
from gateway.domain.errors import InvalidRequest
from gateway.domain.images import StoredPicture
from gateway.domain.task import Task
from gateway.edge.auth import authenticate
from gateway.edge.record import record_of
from gateway.edge.render import CHUNK_BYTES, around, opened, pictures_of, streamed
from gateway.service.deletion import Deletion
from gateway.service.links import Links
from gateway.service.task_json import task_fields
from gateway.service.tasks import MAX_PAGE, PAGE, TaskService
from gateway.tasks.live import Outcome


class TaskRoutes:
    """Handlers for tasks; another team's task is 404."""

    def __init__(
        self,
        *,
        keys: KeyDirectory,
        tasks: TaskService,
        assets: AssetStore,
        links: Links,
        deletion: Deletion,
        help_url: str,
    ) -> None:
        self._keys = keys
        self._tasks = tasks
        self._assets = assets
        self._links = links
        self._deletion = deletion
        self._help_url = help_url

    async def list_tasks(self, request: Request) -> Response:
        """Return a page of the team's tasks, the newest first, without their pictures."""
        caller = await self._caller(request)
        query = request.query_params
        limit = page_limit(query)
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
        """Return a task, with its pictures and links to them once they are there.

        `?data=links` leaves the pictures out, `?data=false` the links as well.
        """
        caller = await self._caller(request)
        wanted = _wanted(request.query_params.get("data", "true"))
        task = await self._tasks.show(caller, request.path_params["task"])
        record_of(request).task = task.id
        prompt = await self._tasks.prompt(task)
        fields = task_fields(task) | ({} if prompt is None else {"prompt": prompt})
        if wanted == "false":
            return Response(orjson.dumps(fields), media_type="application/json")
        urls = await self._links.urls(task, str(request.base_url))
        if wanted == "links":
            body = fields | {"data": [{"url": url} for url in urls]}
            return Response(orjson.dumps(body), media_type="application/json")
        return await self.answer(task, urls, fields)

    async def answer(
        self,
        task: Task,
        urls: Sequence[str],
        fields: Mapping[str, object],
        *,
        status_code: int = 200,
    ) -> Response:
        """Return a task as `fields` with its pictures, as chunks, and the links to them."""
        pictures = pictures_of(Outcome(task))
        body = {**fields, "data": [{"b64_json": "", "url": url} for url in urls]}
        pieces = [
            await opened(self._assets.read(picture.key, chunk_bytes=CHUNK_BYTES))
            for picture in pictures
        ]
        length, chunks = streamed(around(body), pictures, pieces)
        return StreamingResponse(
            self._until_fetched(pictures, chunks) if pictures else chunks,
            status_code=status_code,
            headers={"content-length": str(length)},
            media_type="application/json",
        )

    async def _until_fetched(
        self, pictures: Sequence[StoredPicture], chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
        self._tasks.fetched(picture.key for picture in pictures)

    async def cancel(self, request: Request) -> Response:
        """Cancel what was not submitted yet; what was goes on, and may be charged."""
        caller = await self._caller(request)
        task = await self._tasks.cancel(caller, request.path_params["task"])
        record_of(request).task = task.id
        return Response(orjson.dumps(task_fields(task)), media_type="application/json")

    async def delete(self, request: Request) -> Response:
        """Delete a task that is over with its pictures, prompt and links.

        Raises NotFound, and TaskRunning for one that is not over.
        """
        caller = await self._caller(request)
        task = request.path_params["task"]
        await self._deletion.delete(caller.team.id, task)
        record_of(request).task = task
        body = {"id": task, "object": "image.task", "deleted": True}
        return Response(orjson.dumps(body), media_type="application/json")

    async def _caller(self, request: Request) -> Caller:
        return await authenticate(request, self._keys, self._help_url)


def _wanted(text: str) -> str:
    if text not in ("true", "false", "links"):
        raise InvalidRequest(
            "Invalid 'data': expected true, false or links.", param="data", code="invalid_value"
        )
    return text


def page_limit(query: Mapping[str, str]) -> int:
    """Return how many tasks a query asks for. Raises InvalidRequest."""
    text = query.get("limit", str(PAGE))
    # The length first: Python reads no number of thousands of digits.
    is_number = len(text) <= len(str(MAX_PAGE)) and text.isascii() and text.isdecimal()
    if not (is_number and 1 <= int(text) <= MAX_PAGE):
        raise InvalidRequest(
            f"Invalid 'limit': expected a whole number from 1 to {MAX_PAGE}.",
            param="limit",
            code="invalid_value",
        )
    return int(text)
