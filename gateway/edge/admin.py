"""`/admin/v1/…`: teams, keys and money, for whoever holds the admin key.

Errors are OpenAI's envelope here too. Without an admin key there are no such routes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.config.problems import ConfigError
from gateway.config.values import (
    parse_duration_ms,
    parse_moment_ms,
    parse_positive_duration_ms,
)
from gateway.domain.clock import Clock
from gateway.domain.errors import InvalidRequest, NotAuthenticated, NotFound
from gateway.domain.money import parse_signed_microusd
from gateway.edge.operators import OperatorRoutes
from gateway.service.admin import Admin, AdminRefusedError, MadeKey, NoSuchError
from gateway.service.amounts import standing_fields
from gateway.service.budgets import Budgets, Payment
from gateway.service.webhooks import Webhooks

Handler = Callable[[Request], Awaitable[Response]]

#: How long a former secret stays good unless the call says otherwise.
DEFAULT_GRACE = "24h"

#: What a top-up says in texts; all but the key must be said.
_PAYMENT = ("budget", "key", "note")

#: What an Idempotency-Key may be.
_OPERATION = re.compile(r"[!-~]{1,255}")

#: Entries of an audit that are told at once.
AUDIT_ENTRIES = 100


class AdminRoutes:
    """Handlers for the admin API; `admin_key` empty is no admin API."""

    def __init__(
        self,
        *,
        admin: Admin,
        budgets: Budgets,
        webhooks: Webhooks,
        operators: OperatorRoutes,
        clock: Clock,
        admin_key: str,
    ) -> None:
        self._admin = admin
        self._budgets = budgets
        self._webhooks = webhooks
        self._operators = operators
        self._clock = clock
        self._enabled = bool(admin_key)
        self._digest = _digest(admin_key)

    def routes(self) -> list[BaseRoute]:
        """Return the admin API's part of the route table; a route's name is its metric label."""
        if not self._enabled:
            return []
        teams, keys = "/admin/v1/teams", "/admin/v1/teams/{team}/keys"
        return [
            self._route("GET", teams, self.list_teams, "admin.teams.list"),
            self._route("GET", f"{teams}/{{team}}", self.show_team, "admin.teams.show"),
            self._route("PUT", f"{teams}/{{team}}", self.set_team, "admin.teams.set"),
            self._route("GET", f"{teams}/{{team}}/audit", self.list_audit, "admin.audit.list"),
            self._route(
                "GET", f"{teams}/{{team}}/budgets", self.list_budgets, "admin.budgets.list"
            ),
            self._route("POST", f"{teams}/{{team}}/top-ups", self.top_up, "admin.top_ups.create"),
            self._route(
                "POST",
                f"{teams}/{{team}}/webhook-secret",
                self.renew_webhook_secret,
                "admin.webhook_secret.renew",
            ),
            self._route("GET", keys, self.list_keys, "admin.keys.list"),
            self._route("POST", keys, self.create_key, "admin.keys.create"),
            self._route("DELETE", f"{keys}/{{key}}", self.revoke_key, "admin.keys.revoke"),
            self._route("POST", f"{keys}/{{key}}/rotate", self.rotate_key, "admin.keys.rotate"),
            *(self._route(*each) for each in self._operators.handlers()),
        ]

    async def list_teams(self, _: Request) -> Response:
        """Return the names of all teams."""
        return _list([{"object": "admin.team", "name": name} for name in await self._admin.teams()])

    async def show_team(self, request: Request) -> Response:
        """Return a team's settings as a file would have them."""
        return await self._team(request.path_params["team"])

    async def set_team(self, request: Request) -> Response:
        """Make a team, or replace its settings by the body's."""
        team = request.path_params["team"]
        await self._admin.set_team(team, await _body(request), who=_who(request))
        return await self._team(team)

    async def list_audit(self, request: Request) -> Response:
        """Return the newest changes of a team, newest first."""
        team = request.path_params["team"]
        await self._admin.team(team)
        entries = await self._admin.audit(team, count=AUDIT_ENTRIES)
        return _list([{"object": "admin.audit", **asdict(entry)} for entry in entries])

    async def list_budgets(self, request: Request) -> Response:
        """Return the budgets of a team and its keys as they stand."""
        standings = await self._budgets.of(request.path_params["team"])
        return _list([{"object": "admin.budget", **standing_fields(each)} for each in standings])

    async def top_up(self, request: Request) -> Response:
        """Pay the body's `usd` into a prepaid `budget` of the team, or of its `key`, with a `note`.

        With the same Idempotency-Key header it is booked once.
        """
        asked = await _body(request)
        usd, texts = asked.pop("usd", None), {name: asked.pop(name, "") for name in _PAYMENT}
        for setting in asked:
            raise _invalid(f"{setting}: unknown; known here: usd, {', '.join(_PAYMENT)}", setting)
        for name, text in texts.items():
            if not isinstance(text, str) or not (text or name == "key"):
                raise _invalid(f"{name}: expected a text", name)
        payment = Payment(
            team=request.path_params["team"],
            **texts,
            delta_microusd=_delta(usd),
            who=_who(request),
            id=_operation(request),
        )
        paid = await self._budgets.pay(payment)
        told = {"object": "admin.top_up", "id": paid.id, "entry": paid.entry_id}
        return _json(told | {"budget": standing_fields(paid.standing)}, status=201)

    async def list_keys(self, request: Request) -> Response:
        """Return the keys made at run time; never a secret."""
        keys = await self._admin.keys(request.path_params["team"])
        return _list([_key(name, told) for name, told in keys.items()])

    async def create_key(self, request: Request) -> Response:
        """Make a key and tell it, this once. The body holds its name, its terms and its end."""
        terms = await _body(request)
        name, expires = terms.pop("name", None), terms.pop("expires", None)
        if not isinstance(name, str):
            raise _invalid("name: expected what the key is called", "name")
        made = await self._admin.create_key(
            request.path_params["team"],
            name,
            terms,
            expires_ms=None if expires is None else self._end_ms(expires),
            who=_who(request),
        )
        return _secret(name, made, status=201)

    async def revoke_key(self, request: Request) -> Response:
        """End a key at once, everywhere."""
        team, name = request.path_params["team"], request.path_params["key"]
        await self._admin.revoke_key(team, name, who=_who(request))
        return _json(_key(name, (await self._admin.keys(team))[name]))

    async def rotate_key(self, request: Request) -> Response:
        """Give a key another secret and tell it, this once; the body may hold the `grace`."""
        grace_ms = _grace_ms(await _body(request))
        name = request.path_params["key"]
        made = await self._admin.rotate_key(
            request.path_params["team"], name, grace_ms=grace_ms, who=_who(request)
        )
        return _secret(name, made, status=200)

    async def renew_webhook_secret(self, request: Request) -> Response:
        """Make another webhook secret for a team, or its first, and tell it, this once.

        The body may hold the `grace` in which callbacks are signed with the former one too.
        """
        team = request.path_params["team"]
        renewed = await self._webhooks.rotate_secret(
            team, grace_ms=_grace_ms(await _body(request)), who=_who(request)
        )
        return _json(
            {"object": "admin.webhook_secret", "team": team, "secret": renewed.current},
            status=201,
            headers={"cache-control": "no-store"},
        )

    async def _team(self, name: str) -> Response:
        settings = await self._admin.team(name)
        return _json({"object": "admin.team", "name": name, "settings": settings})

    def _end_ms(self, written: object) -> int:
        """Return when a key ends: a length of time from now, or a date that is not over."""
        now_ms = self._clock.now_ms()
        try:
            return now_ms + parse_positive_duration_ms(written)
        except ValueError:
            pass
        try:
            end_ms = parse_moment_ms(written)
        except ValueError:
            end_ms = 0
        if end_ms <= now_ms:
            raise _invalid(
                'expires: expected a length of time such as "30d", or a date to come', "expires"
            )
        return end_ms

    def _route(self, method: str, path: str, handler: Handler, name: str) -> Route:
        async def guarded(request: Request) -> Response:
            self._authenticate(request)
            try:
                return await handler(request)
            except ConfigError as error:
                first = error.problems[0]
                raise _invalid("; ".join(map(str, error.problems)), first.path) from None
            except NoSuchError as error:
                raise NotFound(str(error)) from None
            except AdminRefusedError as error:
                raise InvalidRequest(str(error), param=None, code="conflict") from None

        return Route(path, guarded, methods=[method], name=name)

    def _authenticate(self, request: Request) -> None:
        """Raise NotAuthenticated unless the call has the admin key; compares in constant time."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise NotAuthenticated(
                "This needs the admin key (Authorization: Bearer ADMIN_KEY).", code=None
            )
        if not hmac.compare_digest(_digest(key.strip()), self._digest):
            raise NotAuthenticated("Incorrect admin key provided.", code="invalid_api_key")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _who(request: Request) -> str:
    """Return who an audit entry names: all holders of the one key, by where they call from."""
    return f"admin-api:{request.client.host}" if request.client is not None else "admin-api"


async def _body(request: Request) -> dict[str, Any]:
    """Return the body's object, money as Decimal; an empty body is an empty object."""
    body = await request.body() or b"{}"
    try:
        # The stricter parser first: NaN and halves of surrogates cannot be stored or answered.
        orjson.loads(body)
        parsed = json.loads(body, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.", param=None, code=None) from None
    if not isinstance(parsed, dict):
        raise _invalid("The body must be a JSON object.", None)
    return parsed


def _grace_ms(asked: dict[str, Any]) -> int:
    """Return how long a former secret stays good, by a body that may hold nothing else."""
    grace = asked.pop("grace", DEFAULT_GRACE)
    for setting in asked:
        raise _invalid(f"{setting}: unknown setting; known here: grace", setting)
    try:
        return parse_duration_ms(grace)
    except ValueError as error:
        raise _invalid(f"grace: {error}", "grace") from None


def _invalid(message: str, param: str | None) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")


def _delta(usd: object) -> int:
    """Return the micro-dollars to pay in, below zero to take back."""
    text = str(usd) if isinstance(usd, str | int | Decimal) else ""
    try:
        return parse_signed_microusd(text)
    except ValueError as error:
        raise _invalid(f"usd: {error}", "usd") from None


def _operation(request: Request) -> str:
    """Return the id that a call gives itself, empty when it gives none."""
    given = request.headers.get("idempotency-key", "")
    if given and _OPERATION.fullmatch(given) is None:
        raise _invalid("Idempotency-Key: expected at most 255 characters of ASCII, no spaces", None)
    return given


def _key(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {"object": "admin.key", "name": name, **told}


def _secret(name: str, made: MadeKey, *, status: int) -> Response:
    """Answer a key in full: the only time it is told, and for nobody to keep on the way."""
    return _json(
        {**_key(name, made.told), "key": made.secret},
        status=status,
        headers={"cache-control": "no-store"},
    )


def _list(entries: list[dict[str, Any]]) -> Response:
    return _json({"object": "list", "data": entries})


def _json(
    value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    # Amounts that were written with a point are Decimals, told as text as all money is.
    body = json.dumps(value, default=str, ensure_ascii=False)
    return Response(body, status_code=status, headers=headers, media_type="application/json")
