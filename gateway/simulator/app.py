"""The HTTP surface of the simulator: routes, authorization and answers."""

import asyncio
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway.simulator import errors, faults, wire
from gateway.simulator.clock import SYSTEM_CLOCK, Clock
from gateway.simulator.errors import Problem, RefusedError, error_body, invalid_request
from gateway.simulator.hangup import HangUp
from gateway.simulator.markers import ResultFile, Script, Submit, read_script
from gateway.simulator.orders import read_order, read_prompt
from gateway.simulator.pictures import Picture, draw
from gateway.simulator.settings import Envelope, SimulatorSettings
from gateway.simulator.tasks import PREFIX, Task
from gateway.simulator.world import StoredFile, World

_BAD_GATEWAY_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>502</body></html>"
_TOO_MANY_REQUESTS = 429


def create_simulator(settings: SimulatorSettings, *, clock: Clock = SYSTEM_CLOCK) -> Starlette:
    """Return an EvoLink stand-in with an account of its own, to be run under uvicorn."""
    surface = _Surface(settings, World(settings, clock))
    return Starlette(
        routes=[
            Route("/v1/images/generations", surface.submit, methods=["POST"]),
            Route("/v1/tasks/{task_id}", surface.poll, methods=["GET"]),
            Route("/v1/credits", surface.credits, methods=["GET"]),
            Route("/_sim/stats", surface.stats, methods=["GET"]),
            Route("/_sim/reset", surface.reset, methods=["POST"]),
            Route("/{folder}/images/{year}/{month}/{day}/{name}", surface.result, methods=["GET"]),
        ],
        exception_handlers={RefusedError: surface.refuse},
    )


class _Surface:
    """Answer the routes of one world."""

    def __init__(self, settings: SimulatorSettings, world: World) -> None:
        self._settings = settings
        self._world = world

    async def submit(self, request: Request) -> Response:
        """Answer ``POST /v1/images/generations``."""
        _authorize(request, faults.UNAUTHORIZED)
        self._world.count_submit()
        body = _object(await request.body())
        script, prompt = read_script(read_prompt(body))
        try:
            return self._play_submit(body, script, prompt)
        except RefusedError as refusal:
            return self._refused(refusal.problem, script.envelope)

    async def poll(self, request: Request) -> Response:
        """Answer ``GET /v1/tasks/{task_id}``."""
        _authorize(request, errors.QUERY_UNAUTHORIZED)
        task_id = request.path_params["task_id"]
        seen = self._world.poll(task_id)
        if not task_id.startswith(PREFIX):
            raise RefusedError(errors.INVALID_TASK_ID)
        if seen is None:
            raise RefusedError(errors.TASK_NOT_FOUND)
        shape = seen.task.script.shape or self._settings.shape
        return _json(wire.task_body(seen, self._base_url(request), shape))

    async def credits(self, request: Request) -> Response:
        """Answer ``GET /v1/credits``."""
        _authorize(request, errors.CREDITS_UNAUTHORIZED)
        return _json(wire.credits_body(self._world.account()))

    async def result(self, request: Request) -> Response:
        """Serve a result file; whoever knows the link may read it (§11)."""
        stored = self._world.file(request.url.path)
        if stored is None or stored.task.script.result is ResultFile.MISSING:
            return PlainTextResponse("404 page not found", status_code=404)
        media_type = f"image/{stored.task.order.output_format}"
        if stored.task.script.result is ResultFile.NOT_AN_IMAGE:
            return Response("<html>this is not an image</html>", media_type=media_type)
        content = await asyncio.to_thread(draw, _picture(stored))
        return Response(content, media_type=media_type)

    async def stats(self, _: Request) -> Response:
        """Answer ``GET /_sim/stats``."""
        return _json(wire.stats_body(self._world.stats()))

    async def reset(self, _: Request) -> Response:
        """Answer ``POST /_sim/reset`` with the counts after it."""
        self._world.reset()
        return _json(wire.stats_body(self._world.stats()))

    async def refuse(self, _: Request, refusal: Exception) -> Response:
        """Answer a ``RefusedError`` that no route caught."""
        if not isinstance(refusal, RefusedError):
            raise refusal
        return self._refused(refusal.problem, None)

    def _play_submit(self, body: dict[str, Any], script: Script, prompt: str) -> Response:
        if script.refusal is not None:
            raise RefusedError(script.refusal)
        if script.submit is Submit.HTML:
            return HTMLResponse(_BAD_GATEWAY_PAGE, status_code=502)
        task = self._world.submit(read_order(body, prompt), script)
        if script.submit is Submit.DROPPED:
            return HangUp()
        return _json(_created(task, script))

    def _refused(self, problem: Problem, envelope: Envelope | None) -> Response:
        headers = {}
        if problem.status == _TOO_MANY_REQUESTS:
            headers["Retry-After"] = str(self._settings.retry_after_s)
        body = error_body(problem, envelope or self._settings.envelope)
        return _json(body, problem.status, headers)

    def _base_url(self, request: Request) -> str:
        return (self._settings.public_url or str(request.base_url)).rstrip("/")


def _authorize(request: Request, problem: Problem) -> None:
    """Accept any bearer token that is not empty; raise ``RefusedError`` otherwise."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.casefold() != "bearer" or not token:
        raise RefusedError(problem)


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise invalid_request("the body is not JSON") from None
    if not isinstance(body, dict):
        raise invalid_request("the body is not a JSON object")
    return body


def _created(task: Task, script: Script) -> dict[str, Any]:
    body = wire.created_body(task)
    if script.submit is Submit.WITHOUT_ID:
        del body["id"]
    return body


def _picture(stored: StoredFile) -> Picture:
    order = stored.task.order
    return Picture(
        width=order.width,
        height=order.height,
        output_format=order.output_format,
        transparent=order.transparent,
        seed=stored.task.seed + stored.index,
        prompt=order.prompt,
        note=f"{order.model.name}  {order.width}x{order.height}  {order.quality}  "
        f"{stored.index + 1}/{order.pictures}",
    )


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(wire.encode(body), status, headers, media_type="application/json")
