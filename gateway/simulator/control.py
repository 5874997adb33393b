"""The simulator's own routes under ``/_sim``, which EvoLink does not have."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.simulator import wire
from gateway.simulator.courier import Courier
from gateway.simulator.requests import json_response
from gateway.simulator.settings import SimulatorSettings
from gateway.simulator.world import World


class Control:
    """Show and reset one world."""

    def __init__(
        self,
        settings: SimulatorSettings,
        world: World,
        courier: Courier,
        *,
        reset: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._world = world
        self._courier = courier
        self._reset = reset

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/_sim/stats", self.stats, methods=["GET"]),
            Route("/_sim/tasks", self.tasks, methods=["GET"]),
            Route("/_sim/reset", self.reset, methods=["POST"]),
        ]

    async def stats(self, _: Request) -> Response:
        """Answer ``GET /_sim/stats``."""
        self._courier.wake()
        return json_response(wire.stats_body(self._world.stats()))

    async def tasks(self, request: Request) -> Response:
        """Answer ``GET /_sim/tasks``: every task, the newest first, or those of one ``label``."""
        label = request.query_params.get("label")
        rows = [
            wire.record_body(seen, self._settings.credits_per_usd)
            for seen in self._world.newest()
            if label is None or seen.task.script.label == label
        ]
        return json_response({"tasks": rows, "total": len(rows)})

    async def reset(self, _: Request) -> Response:
        """Answer ``POST /_sim/reset`` with the counts after it."""
        self._reset()
        return json_response(wire.stats_body(self._world.stats()))
