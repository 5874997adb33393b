"""Every route, in one list; a route's name is its metric label."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from gateway.edge.images import ImageRoutes
from gateway.edge.models import ModelRoutes
from gateway.edge.ops import OpsRoutes
from gateway.edge.quotes import QuoteRoutes
from gateway.edge.usage import UsageRoutes


def routes(
    images: ImageRoutes,
    quotes: QuoteRoutes,
    models: ModelRoutes,
    usage: UsageRoutes,
    ops: OpsRoutes,
) -> list[BaseRoute]:
    """Return the route table."""
    return [
        Route(
            "/v1/images/generations",
            images.generations,
            methods=["POST"],
            name="images.generations",
        ),
        Route("/v1/images/quotes", quotes.quotes, methods=["POST"], name="images.quotes"),
        Route("/v1/usage", usage.show, methods=["GET"], name="usage"),
        Route("/v1/models", models.list_models, methods=["GET"], name="models.list"),
        # A model's name may hold a slash; some clients send it raw.
        Route("/v1/models/{model:path}", models.show_model, methods=["GET"], name="models.show"),
        Route("/healthz", ops.healthz, methods=["GET"], name="healthz"),
        Route("/readyz", ops.readyz, methods=["GET"], name="readyz"),
        Route("/metrics", ops.metrics, methods=["GET"], name="metrics"),
    ]
