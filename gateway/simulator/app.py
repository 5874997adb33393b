"""The simulator as an ASGI application: its parts, put together."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import Route

from gateway.simulator.clock import SYSTEM_CLOCK, Clock
from gateway.simulator.control import Control
from gateway.simulator.courier import Courier
from gateway.simulator.errands import Errands
from gateway.simulator.file_routes import FileRoutes
from gateway.simulator.files import Files
from gateway.simulator.refusals import Refusals
from gateway.simulator.results import Results
from gateway.simulator.rules import Rule, Stage
from gateway.simulator.settings import SimulatorSettings
from gateway.simulator.submits import Submits
from gateway.simulator.task_routes import TaskRoutes
from gateway.simulator.world import World


def create_simulator(
    settings: SimulatorSettings, *, rules: Sequence[Rule] = (), clock: Clock = SYSTEM_CLOCK
) -> Starlette:
    """Return an EvoLink stand-in with an account of its own, to be run under uvicorn.

    ``rules`` play faults without a word in any prompt. It needs no lifespan.
    """
    world, files = World(settings, clock), Files(settings, clock)
    stage, errands = Stage(rules, settings.seed), Errands()
    courier = Courier(settings, world, errands)
    refusals = Refusals(settings, clock)

    def reset() -> None:
        for part in (world, files, stage):
            part.reset()

    results = Results(settings, world, files, stage, refusals)
    submits = Submits(
        settings,
        world,
        stage=stage,
        refusals=refusals,
        results=results,
        courier=courier,
        errands=errands,
    )
    reading = TaskRoutes(settings, world, stage, refusals, courier)
    return Starlette(
        routes=[
            Route("/v1/images/generations", submits.submit, methods=["POST"]),
            *reading.routes(),
            *FileRoutes(settings, files, world, stage).routes(),
            *Control(settings, world, courier, reset=reset).routes(),
            # Last, because links of uploaded files may have any path.
            Route("/{path:path}", results.result, methods=["GET"]),
        ],
    )
