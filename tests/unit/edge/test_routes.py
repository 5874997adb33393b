import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from gateway.access.file_keys import FileKeys
from gateway.assets.interface import AssetStore
from gateway.assets.remote import RemotePictures
from gateway.domain.errors import GatewayError
from gateway.domain.tokens import Signer
from gateway.edge.assets import AssetRoutes
from gateway.edge.callbacks import CallbackRoutes
from gateway.edge.drain import Drain
from gateway.edge.edits import EditReader
from gateway.edge.errors import on_gateway_error, on_http_exception
from gateway.edge.evolink import EvolinkRoutes
from gateway.edge.evolink_edits import SubmitReader
from gateway.edge.images import ImageRoutes
from gateway.edge.middleware import BodyLimitMiddleware, RecordMiddleware, SlashMiddleware
from gateway.edge.models import ModelRoutes
from gateway.edge.openapi.document import DocumentRoutes
from gateway.edge.ops import OpsRoutes
from gateway.edge.parse import FieldRules
from gateway.edge.pictures import PictureReader
from gateway.edge.quotes import QuoteRoutes
from gateway.edge.routes import Handlers, routes
from gateway.edge.streams import PictureStreams
from gateway.edge.tasks import TaskRoutes
from gateway.edge.usage import UsageRoutes
from gateway.service.deletion import Deletion
from gateway.service.evolink import EvolinkService
from gateway.service.links import Links
from gateway.service.quotes import QuoteService
from gateway.service.references import References
from gateway.service.tasks import TaskService
from gateway.service.usage import UsageService
from gateway.telemetry.metrics import Metrics
from tests.support.clock import FixedClock
from tests.support.factories import KEY, a_caller, a_catalog_service, a_model, a_team

#: A model whose name holds a slash, as catalogues of other gateways have them.
SLASHED = "openai/gpt-image-2"
#: A model of the catalogue that the team may not use.
PRIVATE = "gpt-image-private"

LIMIT_BYTES = 1000


async def _signer() -> Signer:
    return Signer((b"secret",))


class Edge:
    """The whole edge in this process, over a service that can start nothing."""

    def __init__(self) -> None:
        team = a_team(models=("gpt-image-1.5", SLASHED))
        keys = FileKeys({hashlib.sha256(KEY.encode()).digest(): a_caller(team)})
        images = a_catalog_service(*map(a_model, (SLASHED, "gpt-image-1.5", PRIVATE)))
        rules = FieldRules(images.find_model)
        links = Links(_signer, FixedClock(), keep_ms=1000, public_url="")
        references = References(
            cast("AssetStore", None),
            cast("RemotePictures", None),
            links,
            spool_dir=Path(),
            passes_links=lambda _: False,
            random_bytes=bytes,
            start=lambda _, work: work.close(),
        )
        pictures = PictureReader(references)
        edits = EditReader(pictures, rules, max_rest_bytes=LIMIT_BYTES)
        self.metrics = Metrics(CollectorRegistry(), version="1")
        orders = ImageRoutes(
            keys=keys,
            images=images,
            rules=rules,
            edits=edits,
            references=references,
            tasks=cast("TaskService", None),
            usage=cast("UsageService", None),
            assets=cast("AssetStore", None),
            links=links,
            streams=cast("PictureStreams", None),
            drain=Drain(),
            help_url="",
        )
        self.routes = routes(
            Handlers(
                document=DocumentRoutes([], rules, version="1"),
                images=orders,
                quotes=QuoteRoutes(
                    keys=keys,
                    edits=edits,
                    references=references,
                    quotes=cast("QuoteService", None),
                    help_url="",
                ),
                models=ModelRoutes(keys=keys, images=images, help_url=""),
                usage=UsageRoutes(keys=keys, usage=cast("UsageService", None), help_url=""),
                tasks=TaskRoutes(
                    keys=keys,
                    tasks=cast("TaskService", None),
                    assets=cast("AssetStore", None),
                    links=links,
                    deletion=cast("Deletion", None),
                    help_url="",
                ),
                callbacks=CallbackRoutes(None),
                ops=OpsRoutes(checks={}, metrics=self.metrics),
                evolink=EvolinkRoutes(
                    keys=keys,
                    submits=SubmitReader(pictures, images.find_model, max_rest_bytes=LIMIT_BYTES),
                    references=references,
                    orders=orders,
                    evolink=cast("EvolinkService", None),
                    links=links,
                    help_url="",
                ),
                assets=AssetRoutes(
                    links=links,
                    tasks=cast("TaskService", None),
                    assets=cast("AssetStore", None),
                ),
            ),
            max_upload_bytes=LIMIT_BYTES,
        )
        app = Starlette(
            routes=self.routes,
            middleware=[
                Middleware(
                    RecordMiddleware,
                    clock=FixedClock(),
                    metrics=self.metrics,
                    random_bytes=bytes,
                ),
                Middleware(BodyLimitMiddleware, limit_bytes=LIMIT_BYTES),
                Middleware(SlashMiddleware),
            ],
            exception_handlers={GatewayError: on_gateway_error, HTTPException: on_http_exception},
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://gateway",
            headers={"authorization": f"Bearer {KEY}"},
        )

    def scraped(self) -> str:
        """Return all metrics as a scraper sees them."""
        return generate_latest(self.metrics.registry).decode()


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """Serve the edge to a client in this process."""
    edge = Edge()
    async with edge.client:
        yield edge


def test_the_table() -> None:
    """Paths, methods and names: names are metric labels and dashboards rely on them."""
    table = [
        (route.path, sorted(route.methods or ()), route.name)
        for route in Edge().routes
        if isinstance(route, Route)
    ]

    assert table == [
        ("/v1/images/generations", ["POST"], "images.generations"),
        ("/v1/images/edits", ["POST"], "images.edits"),
        ("/v1/images/quotes", ["POST"], "images.quotes"),
        ("/v1/images/tasks", ["GET", "HEAD"], "tasks.list"),
        ("/v1/images/tasks/{task}", ["GET", "HEAD"], "tasks.show"),
        ("/v1/images/tasks/{task}", ["DELETE"], "tasks.delete"),
        ("/v1/images/tasks/{task}/cancel", ["POST"], "tasks.cancel"),
        ("/v1/callbacks/{provider}/{token}", ["POST"], "callbacks"),
        ("/v1/usage", ["GET", "HEAD"], "usage"),
        ("/v1/models", ["GET", "HEAD"], "models.list"),
        ("/v1/models/{model:path}", ["GET", "HEAD"], "models.show"),
        ("/v1/assets/{token}", ["GET", "HEAD"], "assets"),
        ("/evolink/v1/images/generations", ["POST"], "evolink.generations"),
        ("/evolink/v1/tasks", ["GET", "HEAD"], "evolink.list"),
        ("/evolink/v1/tasks/batch", ["POST"], "evolink.batch"),
        ("/evolink/v1/tasks/{task}", ["GET", "HEAD"], "evolink.show"),
        ("/evolink/v1/credits", ["GET", "HEAD"], "evolink.credits"),
        ("/healthz", ["GET", "HEAD"], "healthz"),
        ("/readyz", ["GET", "HEAD"], "readyz"),
        ("/metrics", ["GET", "HEAD"], "metrics"),
        ("/openapi.json", ["GET", "HEAD"], "openapi"),
    ]


@pytest.mark.parametrize(
    ("method", "path", "status", "route"),
    [
        ("GET", "/v1/models", 200, "models.list"),
        ("GET", "/v1/models/gpt-image-1.5", 200, "models.show"),
        # Python 1.x sends the raw slash, later clients %2F.
        ("GET", "/v1/models/openai/gpt-image-2", 200, "models.show"),
        ("GET", "/v1/models/openai%2Fgpt-image-2", 200, "models.show"),
        ("GET", "/v1/models/nope", 404, "models.show"),
        ("GET", f"/v1/models/{PRIVATE}", 404, "models.show"),
        ("POST", "/v1/images/generations", 400, "images.generations"),
        ("GET", "/v1/images/generations", 405, "images.generations"),
        ("POST", "/v1/images/variations", 404, "other"),
        ("PUT", "/v1/images/tasks/imgtask_1", 405, "tasks.show"),
        ("GET", "/v1/images/tasks/imgtask_1/cancel", 405, "tasks.cancel"),
        # Callbacks are only taken where the upstream was told an address.
        ("POST", "/v1/callbacks/evolink/forged", 404, "callbacks"),
        # A base URL that ends in a slash, joined to a path that begins with one.
        ("POST", "http://gateway/v1//images/generations", 400, "images.generations"),
        ("GET", "http://gateway//v1/models", 200, "models.list"),
        ("GET", "/v1/assets/made-up.png", 404, "assets"),
        ("GET", "/v1/assets/", 404, "other"),
        ("POST", "/evolink/v1/images/generations", 400, "evolink.generations"),
        ("GET", "/nope", 404, "other"),
        ("GET", "/healthz", 200, "healthz"),
        ("GET", "/readyz", 200, "readyz"),
        ("GET", "/metrics", 200, "metrics"),
    ],
)
async def test_every_route(edge: Edge, method: str, path: str, status: int, route: str) -> None:
    """Each path reaches its handler, and is counted under its route's name."""
    response = await edge.client.request(method, path)

    assert status == response.status_code
    assert f'route="{route}",status="{status}"' in edge.scraped()


@pytest.mark.parametrize(
    ("fields", "status", "code", "model"),
    [
        ({"model": "made-up-by-a-client", "prompt": "x"}, 400, "invalid_value", "other"),
        ({"model": ["made-up-by-a-client"], "prompt": "x"}, 400, "invalid_type", "other"),
        (
            {"model": "gpt-image-1.5", "made-up-by-a-client": 1},
            *(400, "unknown_parameter", "other"),
        ),
        (
            {"model": "gpt-image-1.5", "prompt": "x", "size": "made-up-by-a-client"},
            *(400, "invalid_value", "other"),
        ),
        ({"model": PRIVATE, "prompt": "made-up-by-a-client"}, 403, "permission_denied", PRIVATE),
    ],
)
async def test_labels_never_hold_what_a_client_made_up(
    edge: Edge, fields: dict[str, object], status: int, code: str, model: str
) -> None:
    """An unknown model is `other`; no text of a client's becomes a label."""
    response = await edge.client.post("/v1/images/generations", content=json.dumps(fields))
    scraped = edge.scraped()

    assert (status, code) == (response.status_code, response.json()["error"]["code"])
    assert (
        f'gateway_requests_total{{code="{code}",model="{model}",route="images.generations",'
        f'status="{status}",team="design"}} 1.0'
    ) in scraped
    assert f'gateway_rejections_total{{reason="{code}",team="design"}} 1.0' in scraped
    assert "made-up-by-a-client" not in scraped


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/v1/models/made-up-by-a-client", {}),
        ("GET", "/made-up-by-a-client", {}),
        ("GET", "/v1/models", {"authorization": "Bearer made-up-by-a-client"}),
        ("GET", "/v1/models", {"user-agent": "made-up-by-a-client"}),
        ("MADE-UP-BY-A-CLIENT", "/v1/models", {}),
    ],
)
async def test_labels_never_hold_paths_keys_or_methods(
    edge: Edge, method: str, path: str, headers: dict[str, str]
) -> None:
    """Whatever a client sends, labels are ours."""
    await edge.client.request(method, path, headers=headers)

    assert "made-up-by-a-client" not in edge.scraped().lower()


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_above_the_limit(edge: Edge, announced: bool) -> None:
    """The framework's refusal from within a handler is the same 413 as the one before it."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (LIMIT_BYTES // 2)

    body = b"x" * (LIMIT_BYTES + 1) if announced else chunks()
    response = await edge.client.post("/v1/images/generations", content=body)

    assert response.status_code == 413
    assert response.json() == {
        "error": {
            "message": "The request body is larger than the 1000 bytes accepted here.",
            "type": "invalid_request_error",
            "param": None,
            "code": "request_too_large",
        }
    }
    assert 'code="request_too_large",model="other",route="images.generations"' in edge.scraped()
