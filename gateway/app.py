"""The ASGI application, and the server around it."""

from __future__ import annotations

import asyncio
import secrets as randomness
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway import __version__
from gateway.assembly.gateway import Front, Gateway
from gateway.assembly.reloader import Reloader
from gateway.config.settings import ServerSettings
from gateway.domain.errors import GatewayError
from gateway.domain.ids import are_siblings
from gateway.edge.admin import AdminRoutes
from gateway.edge.assets import AssetRoutes
from gateway.edge.auth import OPENAI_KEYS_URL
from gateway.edge.callbacks import CallbackRoutes
from gateway.edge.connections import Connection, CrowdMiddleware
from gateway.edge.cors import cors
from gateway.edge.drain import Drain
from gateway.edge.edits import EditReader
from gateway.edge.errors import on_gateway_error, on_http_exception
from gateway.edge.evolink import EvolinkRoutes
from gateway.edge.evolink_edits import SubmitReader
from gateway.edge.forwarded import forwarded
from gateway.edge.images import ImageRoutes
from gateway.edge.linger import LingerMiddleware
from gateway.edge.middleware import (
    BodyLimitMiddleware,
    BodyTimeoutMiddleware,
    RecordMiddleware,
    SlashMiddleware,
)
from gateway.edge.models import ModelRoutes
from gateway.edge.openapi.document import DocumentRoutes
from gateway.edge.operators import OperatorRoutes
from gateway.edge.ops import Check, OpsRoutes
from gateway.edge.parse import FieldRules
from gateway.edge.pictures import PictureReader
from gateway.edge.quotes import QuoteRoutes
from gateway.edge.routes import Handlers, routes
from gateway.edge.served import Served
from gateway.edge.streams import PictureStreams
from gateway.edge.tasks import TaskRoutes
from gateway.edge.usage import UsageRoutes

log = structlog.get_logger(__name__)

#: Clients reuse connections; closing an idle one sooner than they do makes them stumble over it.
KEEP_ALIVE_S = 75

#: After draining, answers that are being sent have this long to reach their clients.
SEND_WITHIN_S = 5


class LoopDiedError(Exception):
    """A background loop ended; the process stops so that a fresh one recovers from the store."""


class Surface(StrEnum):
    """What an application serves: calls, what operators ask for, or both; probes always."""

    ALL = "all"
    CALLS = "calls"
    OPERATORS = "operators"


#: Routes that answer on each listener, whoever it is for.
PROBES = frozenset({"healthz", "readyz"})
METRICS = "metrics"


def create_app(
    gateway: Gateway, front: Front, drain: Drain, surface: Surface = Surface.ALL
) -> Starlette:
    """Return the application for a front of a wired gateway; it starts nothing."""
    server = front.settings.server
    is_strict = server.compat == "strict"
    help_url = OPENAI_KEYS_URL if is_strict else server.help_url
    rules = FieldRules(
        front.images.find_model,
        strict=is_strict,
        default_model=server.default_model,
    )
    pictures = PictureReader(front.references, strict=rules.strict)
    edits = EditReader(pictures, rules, max_rest_bytes=server.max_body_bytes)
    images = ImageRoutes(
        keys=front.keys,
        images=front.images,
        rules=rules,
        edits=edits,
        references=front.references,
        tasks=front.tasks,
        usage=front.usage,
        assets=gateway.assets,
        links=front.links,
        streams=PictureStreams(
            images=front.images,
            assets=gateway.assets,
            drain=drain,
            clock=gateway.clock,
            heartbeat_s=server.heartbeat_ms / 1000,
        ),
        drain=drain,
        help_url=help_url,
        keepalive_s=server.keepalive_after_ms / 1000,
    )
    models = ModelRoutes(keys=front.keys, images=front.images, help_url=help_url)
    quotes = QuoteRoutes(
        keys=front.keys,
        edits=edits,
        references=front.references,
        quotes=front.quotes,
        help_url=help_url,
    )
    usage = UsageRoutes(keys=front.keys, usage=front.usage, help_url=help_url)
    tasks = TaskRoutes(
        keys=front.keys,
        tasks=front.tasks,
        assets=gateway.assets,
        links=front.links,
        deletion=gateway.deletion,
        help_url=help_url,
    )
    evolink = EvolinkRoutes(
        keys=front.keys,
        submits=SubmitReader(
            PictureReader(front.references),
            front.images.find_model,
            max_rest_bytes=server.max_body_bytes,
        ),
        references=front.references,
        orders=images,
        evolink=front.evolink,
        links=front.links,
        help_url=help_url,
    )
    ops = OpsRoutes(
        checks=_checks(gateway, drain),
        metrics=gateway.metrics,
        metrics_token=front.metrics_token.get_secret_value(),
    )
    document = DocumentRoutes([*front.catalog.models.values()], rules, version=__version__)
    handlers = Handlers(
        images,
        quotes,
        models,
        usage,
        tasks,
        CallbackRoutes(gateway.callbacks),
        ops,
        document,
        evolink,
        AssetRoutes(links=front.links, tasks=front.tasks, assets=gateway.assets),
    )
    admin = AdminRoutes(
        admin=front.admin,
        budgets=front.budgets,
        webhooks=front.webhooks,
        operators=OperatorRoutes(operators=front.operators, budgets=front.budgets),
        clock=gateway.clock,
        admin_key=front.admin_key.get_secret_value(),
    )
    own = routes(handlers, max_upload_bytes=server.max_upload_bytes)
    table = _shown(own, admin.routes(), surface)
    app = Starlette(
        routes=table,
        middleware=[
            *forwarded(server.trusted_proxies),
            # The time it takes is nobody's.
            Middleware(LingerMiddleware),
            # A page must be able to read every answer, also that of a defect.
            *cors(server.cors_origins, table),
            Middleware(
                RecordMiddleware,
                clock=gateway.clock,
                metrics=gateway.metrics,
                random_bytes=randomness.token_bytes,
                tracer=gateway.tracer,
            ),
            Middleware(CrowdMiddleware),
            Middleware(BodyLimitMiddleware, limit_bytes=server.max_body_bytes),
            Middleware(
                BodyTimeoutMiddleware,
                timeout_s=server.body_timeout_ms / 1000,
                clock=gateway.clock,
            ),
            Middleware(SlashMiddleware),
        ],
        exception_handlers={
            GatewayError: on_gateway_error,
            HTTPException: partial(on_http_exception, strict=is_strict),
        },
    )
    # A slash too many is a path that is not here, in our envelope: the framework would send the
    # client to a URL made from its own Host header.
    app.router.redirect_slashes = False
    return app


def _shown(
    calls: Sequence[BaseRoute], admin: Sequence[BaseRoute], surface: Surface
) -> list[BaseRoute]:
    """Return the routes of a surface."""
    match surface:
        case Surface.ALL:
            return [*calls, *admin]
        case Surface.CALLS:
            return [route for route in calls if _name(route) != METRICS]
        case Surface.OPERATORS:
            return [*(route for route in calls if _name(route) in {METRICS, *PROBES}), *admin]


def _name(route: BaseRoute) -> str:
    return str(getattr(route, "name", ""))


def _checks(gateway: Gateway, drain: Drain) -> dict[str, Check]:
    async def loops() -> None:
        if dead := gateway.background.dead_loops:
            raise LoopDiedError(f"dead: {', '.join(dead)}")

    return {
        "store": gateway.store.ping,
        "assets": gateway.assets.ping,
        "loops": loops,
        "serving": drain.check,
    }


class Applications:
    """What is served on each surface, made anew for each front and exchanged all at once."""

    def __init__(self, gateway: Gateway, drain: Drain, surfaces: Sequence[Surface]) -> None:
        self._gateway = gateway
        self._drain = drain
        self._served = {
            surface: Served(create_app(gateway, gateway.front, drain, surface))
            for surface in surfaces
        }

    def on(self, surface: Surface) -> Served:
        """Return what a surface is served by, now and later."""
        return self._served[surface]

    def prepare(self, front: Front) -> Callable[[], None]:
        """Make all applications of a front; what is returned puts them in force."""
        made = {
            surface: create_app(self._gateway, front, self._drain, surface)
            for surface in self._served
        }

        def put_in_force() -> None:
            for surface, app in made.items():
                self._served[surface].app = app

        return put_in_force


class Server(uvicorn.Server):
    """Leaves signals to whoever runs the process, and tells when it listens."""

    def __init__(
        self, config: uvicorn.Config, on_started: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: uvicorn would end the process before the gateway has closed."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and say so."""
        await super().startup(sockets=sockets)
        self._on_started()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket (port 0 takes a free one). Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _config(app: ASGIApp, tls: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SEND_WITHIN_S,
        ssl_certfile=tls.tls_cert,
        ssl_keyfile=tls.tls_key,
    )


async def _at_once() -> None:
    """Wait for nobody."""


async def serve(
    gateway: Gateway,
    listener: socket.socket,
    *,
    operators: socket.socket | None = None,
    stop: asyncio.Event,
    on_started: Callable[[], None] = lambda: None,
    on_idle: Callable[[], Awaitable[None]] = _at_once,
    reloader: Reloader | None = None,
) -> None:
    """Serve until `stop` is set, then let running calls finish within `server.drain`.

    Meanwhile the server still answers: readiness is red, and new calls are told to go elsewhere.
    When no call waits any more, it ends as soon as `on_idle` returns. The admin API and metrics are
    served on `operators` alone when it is given, until the end. With a `reloader`, what serves
    follows its settings.

    Raises LoopDiedError after the same orderly stop when a background loop died.
    """
    drain = Drain()
    tls = gateway.front.settings.server
    surface = Surface.ALL if operators is None else Surface.CALLS
    apps = Applications(gateway, drain, (surface, Surface.OPERATORS))
    server = Server(_config(apps.on(surface), tls), on_started)
    beside = Server(_config(apps.on(Surface.OPERATORS), tls))
    gateway.background.on_death(stop.set)
    if reloader is not None:
        reloader.serve_by(apps.prepare)
        reloader.start()
    gateway.start()

    async def stopping() -> None:
        await stop.wait()
        await _stop(gateway, server, drain, on_idle)

    gateway.background.step("stop", stopping())
    async with asyncio.TaskGroup() as group:
        if operators is not None:
            group.create_task(beside.serve(sockets=[operators]))
        await server.serve(sockets=[listener])
        beside.should_exit = True
    stop.set()
    if dead := gateway.background.dead_loops:
        raise LoopDiedError(f"background loop died: {', '.join(dead)}")


async def _stop(
    gateway: Gateway,
    server: uvicorn.Server,
    drain: Drain,
    on_idle: Callable[[], Awaitable[None]],
) -> None:
    """Let others have what is not waited for at once, and the rest when its calls are over.

    Where there is nobody else, this process goes on with all of it until time is up. The other
    workers of one parent are nobody else: they stop together.
    """
    log.info("stopping", action="stopping")
    gateway.recovery.stop()
    async with asyncio.TaskGroup() as group:
        if any(not are_siblings(gateway.replica.id, other) for other in gateway.replica.others):
            group.create_task(gateway.engine.hand_over())
        waiting = await drain.finish(gateway.front.settings.server.drain_ms / 1000)
        if waiting:
            log.warning("calls_cut_off", action="calls_cut_off", calls=waiting)
        await on_idle()
        server.should_exit = True


def reload_on_signal(reloader: Reloader) -> None:
    """Reload on SIGHUP. Only in the main thread of a process."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.ask)


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGINT and SIGTERM. Only in the main thread of a process."""
    running = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        running.add_signal_handler(number, stop.set)
