"""`/admin/v1/usage`, `…/tasks` and `…/budgets`: all teams, or one (`?team=`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.domain.errors import InvalidRequest
from gateway.edge.record import record_of
from gateway.edge.tasks import page_limit
from gateway.edge.usage import spending_fields
from gateway.ledger.rollups import Grouping
from gateway.service.amounts import standing_fields
from gateway.service.budgets import Budgets
from gateway.service.operators import Operators
from gateway.service.task_json import operator_fields

Handler = Callable[[Request], Awaitable[Response]]


class OperatorRoutes:
    """Handlers for whoever has shown the admin key already."""

    def __init__(self, *, operators: Operators, budgets: Budgets) -> None:
        self._operators = operators
        self._budgets = budgets

    def handlers(self) -> list[tuple[str, str, Handler, str]]:
        """Return method, path, handler and name of each route."""
        tasks = "/admin/v1/tasks"
        return [
            ("GET", "/admin/v1/usage", self.usage, "admin.usage"),
            ("GET", "/admin/v1/budgets", self.budgets, "admin.budgets.all"),
            ("GET", tasks, self.list_tasks, "admin.tasks.list"),
            ("GET", f"{tasks}/{{task}}", self.show_task, "admin.tasks.show"),
            ("POST", f"{tasks}/{{task}}/cancel", self.cancel_task, "admin.tasks.cancel"),
        ]

    async def usage(self, request: Request) -> Response:
        """Return what was spent in the UTC days from `since` to `until`, told apart `by`."""
        query = request.query_params
        spent, days = await self._operators.spending(
            _team(request),
            query.get("since", ""),
            query.get("until", ""),
            _grouping(query.get("by", Grouping.TEAM)),
        )
        return _json({"object": "admin.usage", **spending_fields(spent, days)})

    async def budgets(self, request: Request) -> Response:
        """Return budgets of teams and their keys as they stand."""
        team = _team(request)
        standings = await (self._budgets.of(team) if team else self._budgets.all())
        return _list([{"object": "admin.budget", **standing_fields(each)} for each in standings])

    async def list_tasks(self, request: Request) -> Response:
        """Return the newest tasks, without prompts and pictures: those are the teams'."""
        limit = page_limit(request.query_params)
        tasks = await self._operators.newest(_team(request), limit=limit)
        return _list([operator_fields(task) for task in tasks])

    async def show_task(self, request: Request) -> Response:
        """Return a task with what only operators are told: upstream ids, owner, possible charge."""
        task = await self._operators.show(_team(request), request.path_params["task"])
        record_of(request).task = task.id
        return _json(operator_fields(task))

    async def cancel_task(self, request: Request) -> Response:
        """Cancel what was not submitted yet; what was goes on, and may be charged."""
        task = await self._operators.cancel(_team(request), request.path_params["task"])
        record_of(request).task = task.id
        return _json(operator_fields(task))


def _team(request: Request) -> str:
    return request.query_params.get("team", "")


def _grouping(text: str) -> Grouping:
    try:
        return Grouping(text)
    except ValueError:
        known = ", ".join(Grouping)
        raise InvalidRequest(
            f"Invalid 'by': expected one of {known}.", param="by", code="invalid_value"
        ) from None


def _list(entries: list[dict[str, object]]) -> Response:
    return _json({"object": "list", "data": entries})


def _json(value: dict[str, object]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
