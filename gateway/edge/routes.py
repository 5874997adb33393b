"""Every route, in one list; a route's name is its metric label."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.routing import BaseRoute, Route

from gateway.edge.assets import AssetRoutes
from gateway.edge.callbacks import CallbackRoutes
from gateway.edge.evolink import EvolinkRoutes
from gateway.edge.images import ImageRoutes
from gateway.edge.models import ModelRoutes
from gateway.edge.openapi.document import DocumentRoutes
from gateway.edge.ops import OpsRoutes
from gateway.edge.quotes import QuoteRoutes
from gateway.edge.tasks import TaskRoutes
from gateway.edge.usage import UsageRoutes


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who serves the routes."""

    images: ImageRoutes
    quotes: QuoteRoutes
    models: ModelRoutes
    usage: UsageRoutes
    tasks: TaskRoutes
    callbacks: CallbackRoutes
    ops: OpsRoutes
    document: DocumentRoutes
    evolink: EvolinkRoutes
    assets: AssetRoutes


def routes(by: Handlers, *, max_upload_bytes: int) -> list[BaseRoute]:
    """Return the route table; bodies with pictures in them may be larger than others."""
    uploads = [Middleware(RequestBodyLimitMiddleware, max_body_size=max_upload_bytes)]
    return [
        Route(
            "/v1/images/generations",
            by.images.generations,
            methods=["POST"],
            name="images.generations",
        ),
        Route(
            "/v1/images/edits",
            by.images.edits,
            methods=["POST"],
            name="images.edits",
            middleware=uploads,
        ),
        Route(
            "/v1/images/quotes",
            by.quotes.quotes,
            methods=["POST"],
            name="images.quotes",
            middleware=uploads,
        ),
        Route("/v1/images/tasks", by.tasks.list_tasks, methods=["GET"], name="tasks.list"),
        Route("/v1/images/tasks/{task}", by.tasks.show, methods=["GET"], name="tasks.show"),
        Route("/v1/images/tasks/{task}", by.tasks.delete, methods=["DELETE"], name="tasks.delete"),
        Route(
            "/v1/images/tasks/{task}/cancel", by.tasks.cancel, methods=["POST"], name="tasks.cancel"
        ),
        Route(
            "/v1/callbacks/{provider}/{token}",
            by.callbacks.receive,
            methods=["POST"],
            name="callbacks",
        ),
        Route("/v1/usage", by.usage.show, methods=["GET"], name="usage"),
        Route("/v1/models", by.models.list_models, methods=["GET"], name="models.list"),
        # A model's name may hold a slash; some clients send it raw.
        Route("/v1/models/{model:path}", by.models.show_model, methods=["GET"], name="models.show"),
        Route("/v1/assets/{token}", by.assets.show, methods=["GET"], name="assets"),
        *_evolink(by.evolink, uploads),
        Route("/healthz", by.ops.healthz, methods=["GET"], name="healthz"),
        Route("/readyz", by.ops.readyz, methods=["GET"], name="readyz"),
        Route("/metrics", by.ops.metrics, methods=["GET"], name="metrics"),
        Route("/openapi.json", by.document.show, methods=["GET"], name="openapi"),
    ]


def _evolink(by: EvolinkRoutes, uploads: list[Middleware]) -> list[BaseRoute]:
    """Return the routes of EvoLink's own surface."""
    return [
        Route(
            "/evolink/v1/images/generations",
            by.generations,
            methods=["POST"],
            name="evolink.generations",
            middleware=uploads,
        ),
        Route("/evolink/v1/tasks", by.list_tasks, methods=["GET"], name="evolink.list"),
        Route("/evolink/v1/tasks/batch", by.batch, methods=["POST"], name="evolink.batch"),
        Route("/evolink/v1/tasks/{task}", by.show, methods=["GET"], name="evolink.show"),
        Route("/evolink/v1/credits", by.credits, methods=["GET"], name="evolink.credits"),
    ]
