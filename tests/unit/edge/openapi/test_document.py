"""The document and the routes say the same; the rest of it is valid OpenAPI."""

from __future__ import annotations

import json
from typing import Any, cast

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from gateway.config.catalog import packaged
from gateway.edge.admin import AdminRoutes
from gateway.edge.openapi.document import OPERATIONS, DocumentRoutes, document, undescribed
from gateway.edge.operators import OperatorRoutes
from gateway.edge.parse import FieldRules
from gateway.edge.routes import Handlers, routes
from gateway.service.admin import Admin
from gateway.service.budgets import Budgets
from gateway.service.operators import Operators
from gateway.service.webhooks import Webhooks
from tests.support.clock import FixedClock
from tests.support.factories import a_model, an_offer

RULES = FieldRules({}.get)
MODELS = (a_model(), a_model("gpt-image-2"), a_model("openai/gpt-image-9"))

HOW = """
These routes are not in /openapi.json: {missing}.
Describe each under its route's name in OPERATIONS of gateway/edge/openapi/images.py (or admin.py,
ops.py); a module of your own is added to OPERATIONS in document.py. Such as:

    "{first}": Operation(
        summary="Say what it does",
        tag="images",
        caller=TEAM,                           # or ADMIN, or ANYBODY
        answers={{200: ok(ref("Task"), "What comes back.")}},   # new shapes: schemas.py
        errors=(*CALL, NotFound),              # classes of domain/errors.py it may answer with
    ),
"""


class Handler:
    """Stands where handlers stand: routes only need something to call."""

    def __getattr__(self, _name: str) -> Any:
        async def called(_request: object) -> None:
            raise AssertionError("called")

        return called


def every_route(*, admin_key: str = "k") -> list[BaseRoute]:
    """Return all routes of a server."""
    handler = Handler()
    handlers = Handlers(*(cast("Any", handler) for _ in Handlers.__dataclass_fields__))
    admin = AdminRoutes(
        admin=cast("Admin", None),
        budgets=cast("Budgets", None),
        webhooks=cast("Webhooks", None),
        operators=OperatorRoutes(operators=cast("Operators", None), budgets=cast("Budgets", None)),
        clock=FixedClock(),
        admin_key=admin_key,
    )
    return [*routes(handlers, max_upload_bytes=1), *admin.routes()]


def made(**keywords: Any) -> dict[str, Any]:
    """Return the document as a client reads it."""
    described = document(every_route(**keywords), MODELS, RULES, version="1.2.3")
    loaded: dict[str, Any] = json.loads(json.dumps(described))
    return loaded


def test_every_route_is_described() -> None:
    """A route that nobody described fails here, and the message says what to do."""
    missing = undescribed(every_route())

    assert not missing, HOW.format(missing=", ".join(missing), first=missing[0])


def test_nothing_is_described_that_is_no_route() -> None:
    """A description whose route is gone must go too: remove it from OPERATIONS."""
    names = {route.name for route in every_route() if isinstance(route, Route)}

    assert set() == OPERATIONS.keys() - names


def test_paths_and_methods_are_those_of_the_routes() -> None:
    """Each route is one operation under its path and method, named as the route."""
    told = {
        (path, method, operation["operationId"])
        for path, methods in made()["paths"].items()
        for method, operation in methods.items()
    }

    assert told == {
        (route.path.replace(":path", ""), method.lower(), route.name)
        for route in every_route()
        if isinstance(route, Route) and not route.path.startswith("/evolink/")
        for method in (route.methods or set()) - {"HEAD"}
    }


def test_it_is_valid() -> None:
    """It is OpenAPI 3.1, all references lead somewhere, and no component is left over."""
    described = made()
    text = json.dumps(described)

    assert [] == [error.message for error in OpenAPIV31SpecValidator(described).iter_errors()]
    for kind, components in described["components"].items():
        if kind != "securitySchemes":
            unused = {name for name in components if f"#/components/{kind}/{name}" not in text}
            assert unused <= {"allow"}, kind


def test_it_is_stable() -> None:
    """The same server is described with the same bytes, whatever order its catalogue has."""
    forth = document(every_route(), MODELS, RULES, version="1")
    back = document(every_route(), MODELS[::-1], RULES, version="1")

    assert json.dumps(forth) == json.dumps(back)


def test_without_an_admin_key_there_is_no_admin_api_in_it() -> None:
    """Neither its paths nor its schemas nor its key."""
    described = made(admin_key="")

    assert [] == [path for path in described["paths"] if path.startswith("/admin")]
    assert ["teamKey"] == [*described["components"]["securitySchemes"]]
    assert "TeamSettings" not in described["components"]["schemas"]
    assert [] == [error.message for error in OpenAPIV31SpecValidator(described).iter_errors()]


@pytest.mark.parametrize(
    ("path", "method", "security"),
    [
        ("/v1/images/generations", "post", [{"teamKey": []}]),
        ("/admin/v1/teams", "get", [{"adminKey": []}]),
        ("/v1/callbacks/{provider}/{token}", "post", []),
        ("/healthz", "get", []),
    ],
)
def test_who_may_call(path: str, method: str, security: list[object]) -> None:
    """Each operation names the key that it wants, if any."""
    assert security == made()["paths"][path][method]["security"]


def test_the_packaged_catalogue_is_described() -> None:
    """Every model of the release can be named in a component."""
    models = [a_model(name, offers=(an_offer(),)) for name in packaged().models]
    described = json.loads(json.dumps(document(every_route(), models, RULES, version="1")))

    assert [] == [error.message for error in OpenAPIV31SpecValidator(described).iter_errors()]


async def test_it_is_served_to_anybody() -> None:
    """Without a key, as JSON, and the same each time."""
    own = DocumentRoutes(MODELS, RULES, version="1.2.3")
    app = Starlette(routes=[Route("/openapi.json", own.show, methods=["GET"], name="openapi")])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://gateway"
    ) as client:
        first, second = [await client.get("/openapi.json") for _ in range(2)]

    assert ["application/json"] == [first.headers["content-type"]]
    assert "1.2.3" == first.json()["info"]["version"]
    assert ["/openapi.json"] == [*first.json()["paths"]]
    assert first.content == second.content
