"""``POST /v1/images/generations`` and what it sets in motion (protocols/evolink.md §2, §3, §13)."""

import asyncio
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.simulator import wire
from gateway.simulator.courier import Courier
from gateway.simulator.errands import Errands
from gateway.simulator.errors import RefusedError, invalid_request
from gateway.simulator.faults import UNAUTHORIZED
from gateway.simulator.orders import Order, read_order, read_prompt
from gateway.simulator.references import Complaint, Inspector
from gateway.simulator.refusals import Refusals
from gateway.simulator.replies import distorted, instead
from gateway.simulator.requests import base_url, json_response
from gateway.simulator.results import Results
from gateway.simulator.rules import Stage
from gateway.simulator.script import Script
from gateway.simulator.settings import Idempotency, References, SimulatorSettings
from gateway.simulator.tasks import Origin, Task
from gateway.simulator.world import World

_REPLAYED = {"idempotency-replayed": "true"}


@dataclass(frozen=True, slots=True)
class _Call:
    """Hold one submit that is being played."""

    body: dict[str, Any]
    digest: str
    """Of the whole body."""
    script: Script
    prompt: str
    origin: Origin


class Submits:
    """Answer the submits of one world."""

    def __init__(
        self,
        settings: SimulatorSettings,
        world: World,
        *,
        stage: Stage,
        refusals: Refusals,
        results: Results,
        courier: Courier,
        errands: Errands,
    ) -> None:
        self._settings = settings
        self._world = world
        self._stage = stage
        self._refusals = refusals
        self._results = results
        self._courier = courier
        self._errands = errands
        self._inspector = Inspector()

    async def submit(self, request: Request) -> Response:
        """Answer one submit as its script says."""
        script = Script()
        try:
            self._refusals.authorize(request, UNAUTHORIZED)
            key = request.headers.get("idempotency-key", "")
            self._world.count_submit(with_key=bool(key))
            self._world.check_limits()
            content = await request.body()
            body = _object(content)
            written = read_prompt(body)
            script, prompt = self._stage.submit(written)
            origin = Origin(_sha256(written), key, base_url(request, self._settings))
            return await self._play(
                _Call(body, hashlib.sha256(content).hexdigest(), script, prompt, origin)
            )
        except RefusedError as refusal:
            return self._refusals.answer(refusal.problem, script)

    async def _play(self, call: _Call) -> Response:
        replays, key = self._world.replays, call.origin.idempotency_key
        mode = call.script.idempotency or self._settings.idempotency
        if key and mode is Idempotency.REPLAYED:
            earlier = self._world.look(replays.find(key, call.digest))
            if earlier is not None:
                self._world.counts.replays += 1
                return self._created(earlier.task, _REPLAYED)
            replays.open(key, call.digest)
        try:
            task = await self._accept(call)
        finally:
            replays.close(key)
        if isinstance(task, Response):
            return task
        proper = self._created(task)
        reply = self._world.plays(call.script.created, "created", call.digest)
        if reply is None:
            return proper
        return await distorted(reply, proper, partial(self._refusals.answer, script=call.script))

    async def _accept(self, call: _Call) -> Task | Response:
        """Create the task, or return the answer of a submit that creates none."""
        reply = self._world.plays(call.script.submit, "submit", call.digest)
        if reply is not None and reply.replaces:
            return instead(reply, partial(self._refusals.answer, script=call.script))
        if reply is not None:
            await asyncio.sleep(reply.seconds)
        order = read_order(
            call.body,
            call.prompt,
            leanings=call.script.leanings,
            strict_callbacks=self._settings.strict_callbacks,
        )
        references = call.script.references or self._settings.references
        if order.references and references is References.SUBMIT:
            await self._check_now(order, call.origin)
        waiting = bool(order.references) and references is References.TASK
        task = self._world.submit(order, call.script, call.origin, waiting=waiting)
        self._world.replays.bind(call.origin.idempotency_key, task.id)
        if waiting:
            self._errands.start(self._check_later(task), name=f"references of {task.id}")
        self._courier.wake()
        return task

    async def _check_now(self, order: Order, origin: Origin) -> None:
        complaint = await self._inspect(order, origin)
        if complaint is not None:
            raise invalid_request(complaint.message, complaint.param)

    async def _check_later(self, task: Task) -> None:
        complaint = await self._inspect(task.order, task.origin)
        if complaint is None:
            self._world.release(task.id)
        else:
            self._world.release(task.id, complaint.code, complaint.message)
        self._courier.wake()

    async def _inspect(self, order: Order, origin: Origin) -> Complaint | None:
        read_own = partial(self._results.own, base=origin.base_url)
        complaint = await self._inspector.inspect(order, read_own)
        if complaint is None:
            self._world.counts.references_read += len(order.references) + bool(order.mask)
        return complaint

    def _created(self, task: Task, headers: dict[str, str] | None = None) -> Response:
        shape = task.script.shape or self._settings.shape
        seen = self._world.look(task.id)
        if task.script.at_once and seen is not None:
            body = wire.task_body(seen, task.origin.base_url, shape)
        else:
            body = wire.created_body(task, shape)
        return json_response(body, headers=headers)


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise invalid_request("the body is not JSON") from None
    if not isinstance(body, dict):
        raise invalid_request("the body is not a JSON object")
    return body


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
