from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from gateway.access.directory import AccountKeys
from gateway.access.file_keys import FileKeys
from gateway.access.redis_accounts import RedisAccounts
from gateway.access.teams import AllTeams
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.config.team_settings import TeamSettings
from gateway.domain.errors import GatewayError
from gateway.domain.ids import TeamId
from gateway.edge.admin import AdminRoutes
from gateway.edge.errors import on_gateway_error, on_http_exception
from gateway.edge.middleware import RecordMiddleware
from gateway.edge.operators import OperatorRoutes
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.redis_top_ups import RedisTopUps
from gateway.service.admin import Admin
from gateway.service.budgets import Budgets
from gateway.service.operators import Operators
from gateway.service.webhooks import Webhooks
from gateway.store.client import Store
from gateway.store.keyspace import callback_secret_key
from gateway.telemetry.metrics import Metrics
from tests.support.clock import NOON_MS, FixedClock

ADMIN_KEY = "Zk3vQ9-pW7xT2mN8bR5cY1dL"
PREPAID = {"usd": 10, "per": "total", "name": "prepaid"}
FILE_TEAMS = {
    "design": TeamSettings.model_validate(
        {"keys": [{"name": "ci", "env": "CI", "budgets": [PREPAID]}], "budgets": [PREPAID]}
    )
}
KEYS = "/admin/v1/teams/design/keys"
TOP_UPS = "/admin/v1/teams/design/top-ups"
PAYMENT = {"budget": "prepaid", "usd": 2.5, "note": "invoice 17"}
NEGATIVE = {"budgets": [{"usd": -1, "per": "day"}]}


class Api:
    """The admin API of one replica, and who holds a key on another."""

    def __init__(self, store: Store, *, admin_key: str = ADMIN_KEY) -> None:
        self.clock = FixedClock()
        self.store = store
        accounts = RedisAccounts(store)
        admin = Admin(accounts, FILE_TEAMS, self.clock, os.urandom)
        budgets = Budgets(
            teams=AllTeams(FILE_TEAMS, accounts),
            ledger=RedisLedger(store, self.clock),
            top_ups=RedisTopUps(store),
            random_bytes=os.urandom,
        )
        routes = AdminRoutes(
            admin=admin,
            budgets=budgets,
            webhooks=Webhooks(admin, TeamSecrets(store, self.clock, os.urandom)),
            operators=OperatorRoutes(operators=cast("Operators", None), budgets=budgets),
            clock=self.clock,
            admin_key=admin_key,
        )
        self.replica = AccountKeys(FileKeys({}), FILE_TEAMS, accounts, self.clock)
        app = Starlette(
            routes=routes.routes(),
            middleware=[
                Middleware(
                    RecordMiddleware,
                    clock=self.clock,
                    metrics=Metrics(CollectorRegistry(), version="1"),
                    random_bytes=os.urandom,
                )
            ],
            exception_handlers={GatewayError: on_gateway_error, HTTPException: on_http_exception},
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, client=("192.0.2.7", 1)),
            base_url="http://gateway",
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        )

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return the status and the body of an answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
        response = await self.client.request(method, path, content=content)
        return response.status_code, response.json()


@pytest.fixture
async def api(store: Store) -> AsyncIterator[Api]:
    """Serve the admin API from the emptied store, at noon."""
    made = Api(store)
    async with made.client:
        yield made


async def test_a_team_is_made_read_and_changed(api: Api) -> None:
    """What is put comes back as a file would have it; money is exact."""
    settings = {"models": ["gpt-image-*"], "budgets": [{"usd": 0.1, "per": "day"}]}
    made = await api.ask("PUT", "/admin/v1/teams/ops", settings)
    listed = await api.ask("GET", "/admin/v1/teams")
    again = await api.ask("PUT", "/admin/v1/teams/ops", made[1]["settings"])
    replaced = await api.ask("PUT", "/admin/v1/teams/ops", {"per_call_usd": 1})

    told = {"models": ["gpt-image-*"], "budgets": [{"usd": "0.10", "per": "day"}]}
    assert (200, {"object": "admin.team", "name": "ops", "settings": told}) == made
    assert made == again
    assert ["design", "ops"] == [team["name"] for team in listed[1]["data"]]
    assert {"per_call_usd": "1.00"} == replaced[1]["settings"]
    assert replaced == await api.ask("GET", "/admin/v1/teams/ops")


async def test_a_key_is_told_once_and_opens_at_once(api: Api) -> None:
    """The answer that holds it is for no cache; the list has its terms and never the key."""
    terms = {"name": "web", "models": ["gpt-image-1*"], "expires": "30d"}
    response = await api.client.post(KEYS, json=terms)
    made = response.json()
    caller = await api.replica.find(made["key"])
    _, listed = await api.ask("GET", KEYS)

    assert (201, "no-store") == (response.status_code, response.headers["cache-control"])
    assert caller is not None
    assert ("design", "web", ("gpt-image-1*",)) == (
        caller.team.id,
        caller.key.name,
        caller.key.models,
    )
    assert NOON_MS + 30 * 86_400_000 == caller.key.expires_ms
    [entry] = listed["data"]
    assert ("web", "active", ["gpt-image-1*"]) == (entry["name"], entry["state"], entry["models"])
    assert {name: value for name, value in made.items() if name != "key"} == entry


async def test_a_key_is_rotated_with_grace_and_revoked(api: Api) -> None:
    """Both secrets open until the grace is over; revoked, none does, also when revoked twice."""
    _, first = await api.ask("POST", KEYS, {"name": "web"})
    _, second = await api.ask("POST", f"{KEYS}/web/rotate", {"grace": "10m"})
    during = [await api.replica.find(made["key"]) for made in (first, second)]
    api.clock.advance(600)
    after = [await api.replica.find(made["key"]) for made in (first, second)]
    revoked = await api.ask("DELETE", f"{KEYS}/web")
    again = await api.ask("DELETE", f"{KEYS}/web")
    _, audit = await api.ask("GET", "/admin/v1/teams/design/audit")

    assert [True, True] == [caller is not None for caller in during]
    assert [False, True] == [caller is not None for caller in after]
    assert (200, "revoked") == (revoked[0], revoked[1]["state"])
    assert revoked == again
    assert await api.replica.refresh(second["key"]) is None
    assert ["revoke_key", "rotate_key", "create_key"] == [line["what"] for line in audit["data"]]
    assert {"admin-api:192.0.2.7"} == {line["who"] for line in audit["data"]}
    assert not any(made["key"] in str(audit) for made in (first, second))


async def test_a_rotation_keeps_the_old_secret_for_a_day_unless_told(api: Api) -> None:
    """An empty body asks for the default grace."""
    await api.ask("POST", KEYS, {"name": "web"})
    _, rotated = await api.ask("POST", f"{KEYS}/web/rotate")

    assert [NOON_MS + 86_400_000] == [former["retires_ms"] for former in rotated["former"]]


async def test_an_expired_key_is_listed_as_such_and_not_rotated(api: Api) -> None:
    """A new secret would open nothing either."""
    await api.ask("POST", KEYS, {"name": "web", "expires": "2026-11-24"})
    api.clock.advance(86_400)
    _, listed = await api.ask("GET", KEYS)
    status, refused = await api.ask("POST", f"{KEYS}/web/rotate")

    assert ["expired"] == [key["state"] for key in listed["data"]]
    assert (400, "conflict") == (status, refused["error"]["code"])


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "param"),
    [
        ("PUT", "/admin/v1/teams/ops", NEGATIVE, 400, "invalid_value", "budgets[0].usd"),
        ("PUT", "/admin/v1/teams/ops", {"keys": []}, 400, "invalid_value", "keys"),
        ("PUT", "/admin/v1/teams/ops", b"{", 400, None, None),
        ("PUT", "/admin/v1/teams/ops", b"[" * 100_000, 400, None, None),
        ("PUT", "/admin/v1/teams/ops", b"[]", 400, "invalid_value", None),
        ("PUT", "/admin/v1/teams/design", {"models": ["*"]}, 400, "conflict", None),
        ("GET", "/admin/v1/teams/nowhere", None, 404, "not_found", None),
        ("GET", "/admin/v1/teams/nowhere/audit", None, 404, "not_found", None),
        ("POST", KEYS, {"models": ["*"]}, 400, "invalid_value", "name"),
        ("POST", KEYS, {"name": "Not A Name"}, 400, "invalid_value", "name"),
        ("POST", KEYS, {"name": "ci"}, 400, "conflict", None),
        ("POST", KEYS, {"name": "web", "expires": "2026-11-23"}, 400, "invalid_value", "expires"),
        ("POST", KEYS, {"name": "web", "expires": "soon"}, 400, "invalid_value", "expires"),
        ("POST", KEYS, {"name": "web", "sha256": "0" * 64}, 400, "invalid_value", "sha256"),
        ("POST", TOP_UPS, PAYMENT | {"usd": 0}, 400, "invalid_value", "usd"),
        ("POST", TOP_UPS, PAYMENT | {"usd": "much"}, 400, "invalid_value", "usd"),
        ("POST", TOP_UPS, PAYMENT | {"usd": True}, 400, "invalid_value", "usd"),
        ("POST", TOP_UPS, PAYMENT | {"note": ""}, 400, "invalid_value", "note"),
        ("POST", TOP_UPS, PAYMENT | {"key": 7}, 400, "invalid_value", "key"),
        ("POST", TOP_UPS, PAYMENT | {"eur": 7}, 400, "invalid_value", "eur"),
        ("POST", TOP_UPS, PAYMENT | {"key": "web"}, 404, "not_found", None),
        ("POST", TOP_UPS, PAYMENT | {"usd": -1}, 400, "conflict", None),
        ("GET", "/admin/v1/teams/nowhere/budgets", None, 404, "not_found", None),
        ("DELETE", f"{KEYS}/nope", None, 404, "not_found", None),
        ("DELETE", f"{KEYS}/ci", None, 400, "conflict", None),
        ("POST", f"{KEYS}/nope/rotate", {"grace": "long"}, 400, "invalid_value", "grace"),
        ("POST", f"{KEYS}/nope/rotate", {"grade": "1h"}, 400, "invalid_value", "grade"),
    ],
)  # fmt: skip
async def test_refusals_say_what_is_wrong(
    api: Api, method: str, path: str, body: object, status: int, code: str | None, param: str | None
) -> None:
    """Each in OpenAI's envelope, with the setting that is wrong; nothing is changed."""
    got, answer = await api.ask(method, path, body)

    assert (status, code, param) == (got, answer["error"]["code"], answer["error"]["param"])
    assert ["design"] == [
        team["name"] for team in (await api.ask("GET", "/admin/v1/teams"))[1]["data"]
    ]


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", f"Basic {ADMIN_KEY}", "Bearer wrong", f"Bearer {ADMIN_KEY}x"]
)
async def test_every_route_needs_the_admin_key(api: Api, store: Store, authorization: str) -> None:
    """Without it, or with another, no route does or tells anything; no key is repeated."""
    api.client.headers["Authorization"] = authorization
    answers = [
        await api.ask(method, path, {"name": "web"})
        for method, path in (
            ("GET", "/admin/v1/teams"),
            ("GET", "/admin/v1/teams/design"),
            ("PUT", "/admin/v1/teams/ops"),
            ("GET", "/admin/v1/teams/design/audit"),
            ("GET", "/admin/v1/teams/design/budgets"),
            ("POST", TOP_UPS),
            ("GET", KEYS),
            ("POST", KEYS),
            ("DELETE", f"{KEYS}/web"),
            ("POST", f"{KEYS}/web/rotate"),
        )
    ]

    assert {401} == {status for status, _ in answers}
    assert 0 == await store.command("DBSIZE")
    assert ADMIN_KEY not in str(answers)


async def test_without_an_admin_key_there_is_no_admin_api(store: Store) -> None:
    """Its paths are answered as any other that does not exist."""
    closed = Api(store, admin_key="")
    async with closed.client:
        answers = [await closed.ask("GET", path) for path in ("/admin/v1/teams", "/nothing")]

    assert [(404, "unknown_url")] * 2 == [
        (status, body["error"]["code"]) for status, body in answers
    ]


async def test_a_top_up_is_booked_once_by_its_idempotency_key(api: Api) -> None:
    """The budgets show it, the audit tells who and why; a key's budget is another one."""
    api.client.headers["Idempotency-Key"] = "op-1"
    status, first = await api.ask("POST", TOP_UPS, PAYMENT)
    _, again = await api.ask("POST", TOP_UPS, PAYMENT)
    del api.client.headers["Idempotency-Key"]
    await api.ask("POST", TOP_UPS, PAYMENT | {"key": "ci", "usd": "0.25"})
    _, budgets = await api.ask("GET", "/admin/v1/teams/design/budgets")
    _, audit = await api.ask("GET", "/admin/v1/teams/design/audit")

    assert (201, "op-1", first) == (status, first["id"], again)
    assert [("", "12.50"), ("ci", "10.25")] == [
        (budget["owner"], budget["limit"]["usd"]) for budget in budgets["data"]
    ]
    assert [("ci", "0.25"), ("", "2.50")] == [
        (line["key"], line["after"]["usd"]) for line in audit["data"]
    ]
    assert {("admin-api:192.0.2.7", "top_up", "invoice 17")} == {
        (line["who"], line["what"], line["after"]["note"]) for line in audit["data"]
    }


async def test_an_idempotency_key_that_is_none(api: Api) -> None:
    """Is refused before anything is booked."""
    api.client.headers["Idempotency-Key"] = "x" * 256
    status, answer = await api.ask("POST", TOP_UPS, PAYMENT)

    assert (400, "invalid_value") == (status, answer["error"]["code"])


async def test_a_webhook_secret_is_made_and_replaced(api: Api) -> None:
    """Each is told once, never by the audit; the former one signs on for the grace."""
    path = "/admin/v1/teams/design/webhook-secret"
    made = await api.ask("POST", path)
    renewed = await api.ask("POST", path, {"grace": "1h"})
    signing = await TeamSecrets(api.store, api.clock, os.urandom).of_team(TeamId("design"))
    _, audit = await api.ask("GET", "/admin/v1/teams/design/audit")

    assert (201, 201) == (made[0], renewed[0])
    assert (renewed[1]["secret"], made[1]["secret"]) == signing.all
    assert ["rotate_webhook_secret", "create_webhook_secret"] == [
        entry["what"] for entry in audit["data"]
    ]
    assert {"admin-api:192.0.2.7"} == {entry["who"] for entry in audit["data"]}
    assert "whsec_" not in json.dumps(audit)


@pytest.mark.parametrize(
    ("team", "body", "status", "param"),
    [
        ("nowhere", None, 404, None),
        ("design", {"grace": "soon"}, 400, "grace"),
        ("design", {"secret": "whsec_mine"}, 400, "secret"),
    ],
)
async def test_no_webhook_secret_is_made_of_nonsense(
    api: Api, team: str, body: object, status: int, param: str | None
) -> None:
    """No team, no length of time, or one that somebody brings along."""
    refused = await api.ask("POST", f"/admin/v1/teams/{team}/webhook-secret", body)
    asked = await api.store.command("EXISTS", callback_secret_key(TeamId(team)))

    assert (status, param) == (refused[0], refused[1]["error"]["param"])
    assert 0 == asked
