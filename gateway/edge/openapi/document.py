"""`/openapi.json`: an OpenAPI 3.1 document of exactly the routes that this server has.

Paths and methods are read from the route table, errors from `edge/errors.py`, bodies from the
tables and types that check them. What is left to say of a route stands under the route's name in
`images.py`, `admin.py` or `ops.py` of this folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.domain.catalog import Model
from gateway.edge.evolink_errors import ROOT as EVOLINK_ROOT
from gateway.edge.openapi import admin, errors, headers, images, ops
from gateway.edge.openapi.parts import ADMIN, ANYBODY, FORM, JSON, TEAM, Operation, Schema
from gateway.edge.openapi.schemas import SCHEMAS
from gateway.edge.parse import FieldRules

#: Every route's description, by the route's name.
OPERATIONS: Mapping[str, Operation] = {
    **images.OPERATIONS,
    **admin.OPERATIONS,
    **ops.OPERATIONS,
}

_ABOUT = """
OpenAI's Images API in front, asynchronous image tasks behind; one picture is one charge.

Every error is OpenAI's envelope, also where no route is. A path takes no other methods than those
below (405, with `allow`); GET may be HEAD.

"""

#: What stands in a path, by the parameter's name.
_IN_PATHS: Mapping[str, str] = {
    "model": "The model's name.",
    "task": "The task's id.",
    "provider": "The provider's name.",
    "token": "What the upstream was given.",
    "team": "The team's name.",
    "key": "The key's name.",
}

_PATH_PARAMETER = re.compile(r"\{(\w+)(:\w+)?\}")


class DocumentRoutes:
    """The handler that serves the document of the application it is part of."""

    def __init__(self, models: Sequence[Model], rules: FieldRules, *, version: str) -> None:
        self._models = models
        self._rules = rules
        self._version = version
        self._body = b""

    async def show(self, request: Request) -> Response:
        """Return the document; anybody may read it."""
        if not self._body:
            made = document(request.app.routes, self._models, self._rules, version=self._version)
            self._body = orjson.dumps(made, option=orjson.OPT_INDENT_2)
        return Response(self._body, media_type=JSON)


def document(
    routes: Sequence[BaseRoute], models: Sequence[Model], rules: FieldRules, *, version: str
) -> dict[str, object]:
    """Return the document of these routes, and of these models' fields, in a stable order.

    A route that nobody has described is left out; a test sees to it that there is none.
    """
    paths: dict[str, dict[str, object]] = {}
    for route, operation in _described(routes):
        path = paths.setdefault(_PATH_PARAMETER.sub(r"{\1}", route.path), {})
        for method in sorted((route.methods or set()) - {"HEAD"}):
            path[method.lower()] = _operation(route, operation)
    by_name = sorted(models, key=lambda model: model.name)
    shown = [operation for _, operation in _described(routes)]
    schemas: dict[str, Schema] = {
        "Error": errors.envelope(),
        **SCHEMAS,
        **images.generation_schemas(by_name, rules),
        **images.edit_schemas(by_name, rules),
    }
    callers = {
        TEAM: "A team's key.",
        ADMIN: "The admin key; without one configured there is no admin API.",
    }
    if any(operation.caller == ADMIN for operation in shown):
        schemas |= admin.admin_schemas()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "image gateway",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": _ABOUT.lstrip() + errors.table(),
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in shown)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": headers.components(),
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": told}
                for name, told in callers.items()
                if any(operation.caller == name for operation in shown)
            },
        },
    }


def undescribed(routes: Sequence[BaseRoute]) -> list[str]:
    """Return the names of routes that nobody has described."""
    return sorted(
        str(getattr(route, "name", route))
        for route in routes
        if _of(route) is None and not _is_elsewhere(route)
    )


def _is_elsewhere(route: BaseRoute) -> bool:
    """Tell whether a route is EvoLink's own surface, which EvoLink describes."""
    return isinstance(route, Route) and route.path.startswith(EVOLINK_ROOT)


def _described(routes: Sequence[BaseRoute]) -> Iterator[tuple[Route, Operation]]:
    for route in routes:
        operation = _of(route)
        if isinstance(route, Route) and operation is not None:
            yield route, operation


def _of(route: BaseRoute) -> Operation | None:
    return OPERATIONS.get(route.name) if isinstance(route, Route) else None


def _operation(route: Route, operation: Operation) -> dict[str, object]:
    in_path = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "description": _IN_PATHS.get(name, name),
        }
        for name, _ in _PATH_PARAMETER.findall(route.path)
    ]
    told: dict[str, object] = {
        "operationId": route.name,
        "summary": operation.summary,
        "description": operation.description or operation.summary,
        "tags": [operation.tag],
        "security": [] if operation.caller == ANYBODY else [{operation.caller: []}],
        "parameters": [*in_path, *(each.described() for each in operation.parameters)],
    }
    if operation.body is not None:
        content = {JSON: {"schema": dict(operation.body)}}
        if operation.form is not None:
            content[FORM] = {"schema": dict(operation.form)}
        told["requestBody"] = {"required": operation.body_required, "content": content}
    answers = {
        str(status): {
            "description": answer.description,
            "headers": headers.references(answer.headers),
            "content": {kind: {"schema": dict(schema)} for kind, schema in answer.content.items()},
        }
        for status, answer in operation.answers.items()
    }
    refusals = errors.responses(operation.errors, operation.error_headers)
    told["responses"] = dict(sorted({**refusals, **answers}.items()))
    return told
