"""The admin API: teams, keys and money, for whoever holds the admin key."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.errors import (
    BodyTooLarge,
    BodyTooSlow,
    GatewayError,
    InternalError,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    StoreUnavailable,
)
from gateway.domain.money import MAX_MICROUSD, MICROUSD_PER_USD
from gateway.edge.admin import DEFAULT_GRACE
from gateway.edge.openapi.headers import TASK
from gateway.edge.openapi.parts import (
    ADMIN,
    COUNT,
    DAY_ASKED,
    TEXT,
    Operation,
    Schema,
    const,
    each,
    header,
    listed,
    named,
    nullable,
    ok,
    one_of,
    query,
    record,
    ref,
)
from gateway.edge.openapi.settings import EXPIRES, key_terms, setting_schemas
from gateway.ledger.rollups import Grouping
from gateway.service.tasks import MAX_PAGE, PAGE
from gateway.service.usage import MAX_DAYS

_CALL: tuple[type[GatewayError], ...] = (NotAuthenticated, StoreUnavailable, InternalError)
_OF_A_TEAM = (*_CALL, NotFound)
_CHANGE = (*_OF_A_TEAM, InvalidRequest, BodyTooLarge, BodyTooSlow)

_TEAM = record({"object": const("admin.team"), "name": TEXT, "settings": ref("TeamSettings")})

#: What may be told of a key; its terms stand among these fields.
_TOLD: Mapping[str, Schema] = {
    "object": const("admin.key"),
    "name": TEXT,
    "schema": COUNT,
    "prefix": TEXT,
    "state": one_of("active", "revoked", "expired"),
    "created_ms": COUNT,
    "expires_ms": nullable(COUNT),
    "former": each(record({"prefix": TEXT, "retires_ms": COUNT})),
}

_SECRET: Schema = {**TEXT, "description": "The key itself, told this once."}

_WEBHOOK_SECRET: Schema = {
    "type": "string",
    "pattern": "^whsec_",
    "description": "By the Standard Webhooks scheme, told this once.",
}

_MAX_USD = MAX_MICROUSD // MICROUSD_PER_USD

_USD: Schema = {
    "anyOf": [
        {"type": "number", "multipleOf": 0.000001, "minimum": -_MAX_USD, "maximum": _MAX_USD},
        {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,6})?$"},
    ],
    "description": "Dollars to pay in; below zero takes back. Never zero.",
}


_ONE_TEAM = query("team", TEXT, "One team; without it, all of them.")

_A_TASK = ok(ref("AdminTask"), "The task as it stands.", *TASK[:1])


def admin_schemas() -> dict[str, Schema]:
    """Return the components of the admin API."""
    terms = key_terms()
    return {
        **setting_schemas(),
        "Key": record({**_TOLD, **terms}, optional=tuple(terms)),
        "MadeKey": record({**_TOLD, **terms, "key": _SECRET}, optional=tuple(terms)),
        "NewKey": record(
            {
                "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"},
                "expires": nullable(EXPIRES),
                **terms,
            },
            optional=("expires", *terms),
        ),
        "AuditEntry": record(
            {
                "object": const("admin.audit"),
                "id": TEXT,
                "at_ms": COUNT,
                "who": TEXT,
                "what": TEXT,
                "key": TEXT,
                "before": nullable(named({})),
                "after": nullable(named({})),
            }
        ),
        "NewTopUp": record(
            {"usd": _USD, "budget": _said(), "key": TEXT, "note": _said()}, optional=("key",)
        ),
        "Rotation": record(
            {
                "grace": {
                    "type": "string",
                    "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$",
                    "default": DEFAULT_GRACE,
                    "description": "How long the former secret stays good.",
                }
            },
            optional=("grace",),
        ),
        "WebhookSecret": record(
            {"object": const("admin.webhook_secret"), "team": TEXT, "secret": _WEBHOOK_SECRET}
        ),
        "Team": _TEAM,
        "TeamName": record({"object": const("admin.team"), "name": TEXT}),
    }


def _said() -> Schema:
    return {"type": "string", "minLength": 1}


OPERATIONS: Mapping[str, Operation] = {
    "admin.teams.list": Operation(
        summary="List the teams",
        tag="admin",
        caller=ADMIN,
        answers={200: ok(listed(ref("TeamName")), "Of the settings file and of the store.")},
        errors=_CALL,
    ),
    "admin.teams.show": Operation(
        summary="Show a team's settings",
        tag="admin",
        caller=ADMIN,
        answers={200: ok(ref("Team"), "As a file would have them.")},
        errors=_OF_A_TEAM,
    ),
    "admin.teams.set": Operation(
        summary="Make a team, or replace its settings",
        tag="admin",
        caller=ADMIN,
        body=ref("TeamSettings"),
        body_required=False,
        answers={200: ok(ref("Team"), "As they are now.")},
        errors=_CHANGE,
    ),
    "admin.audit.list": Operation(
        summary="List the newest changes of a team",
        tag="admin",
        caller=ADMIN,
        answers={200: ok(listed(ref("AuditEntry")), "The newest first.")},
        errors=_OF_A_TEAM,
    ),
    "admin.budgets.list": Operation(
        summary="List the budgets of a team and its keys as they stand",
        tag="admin",
        caller=ADMIN,
        answers={200: ok(listed(ref("AdminBudget")), "The budgets.")},
        errors=_OF_A_TEAM,
    ),
    "admin.budgets.all": Operation(
        summary="List budgets as they stand",
        tag="admin",
        caller=ADMIN,
        parameters=(_ONE_TEAM,),
        answers={200: ok(listed(ref("AdminBudget")), "The budgets of teams and their keys.")},
        errors=_OF_A_TEAM,
    ),
    "admin.usage": Operation(
        summary="Show what teams spent",
        description=f"UTC days, both included; at most {MAX_DAYS} of them.",
        tag="admin",
        caller=ADMIN,
        parameters=(
            _ONE_TEAM,
            query(
                "since", DAY_ASKED, "The first day; without it, the first of the month of the last."
            ),
            query("until", DAY_ASKED, "The last day; without it, today."),
            query("by", {**one_of(*Grouping), "default": Grouping.TEAM}, "What to tell apart."),
        ),
        answers={200: ok(ref("AdminUsage"), "Sums.")},
        errors=(*_OF_A_TEAM, InvalidRequest),
    ),
    "admin.tasks.list": Operation(
        summary="List tasks",
        description="The newest first, without prompts and pictures.",
        tag="admin",
        caller=ADMIN,
        parameters=(
            _ONE_TEAM,
            query(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
                "How many.",
            ),
        ),
        answers={200: ok(listed(ref("AdminTask")), "Tasks.")},
        errors=(*_OF_A_TEAM, InvalidRequest),
    ),
    "admin.tasks.show": Operation(
        summary="Show a task",
        tag="admin",
        caller=ADMIN,
        parameters=(_ONE_TEAM,),
        answers={200: _A_TASK},
        errors=_OF_A_TEAM,
    ),
    "admin.tasks.cancel": Operation(
        summary="Cancel what was not submitted yet of a task",
        description="What was goes on, and may be charged.",
        tag="admin",
        caller=ADMIN,
        parameters=(_ONE_TEAM,),
        answers={200: _A_TASK},
        errors=_OF_A_TEAM,
    ),
    "admin.top_ups.create": Operation(
        summary="Pay into a prepaid budget",
        tag="admin",
        caller=ADMIN,
        parameters=(
            header(
                "idempotency-key",
                {"type": "string", "pattern": "^[!-~]{0,255}$"},
                "With the same key it is booked once.",
            ),
        ),
        body=ref("NewTopUp"),
        answers={201: ok(ref("TopUp"), "Booked.")},
        errors=_CHANGE,
    ),
    "admin.webhook_secret.renew": Operation(
        summary="Make another secret to sign a team's callbacks with, or its first",
        tag="admin",
        caller=ADMIN,
        body=ref("Rotation"),
        body_required=False,
        answers={201: ok(ref("WebhookSecret"), "The secret, told this once.", "cache-control")},
        errors=_CHANGE,
    ),
    "admin.keys.list": Operation(
        summary="List the keys made at run time",
        tag="admin",
        caller=ADMIN,
        answers={200: ok(listed(ref("Key")), "Never a secret.")},
        errors=_OF_A_TEAM,
    ),
    "admin.keys.create": Operation(
        summary="Make a key",
        tag="admin",
        caller=ADMIN,
        body=ref("NewKey"),
        answers={201: ok(ref("MadeKey"), "The key, told this once.", "cache-control")},
        errors=_CHANGE,
    ),
    "admin.keys.revoke": Operation(
        summary="End a key at once",
        tag="admin",
        caller=ADMIN,
        answers={200: ok(ref("Key"), "The key as it is now.")},
        errors=(*_OF_A_TEAM, InvalidRequest),
    ),
    "admin.keys.rotate": Operation(
        summary="Give a key another secret",
        tag="admin",
        caller=ADMIN,
        body=ref("Rotation"),
        body_required=False,
        answers={200: ok(ref("MadeKey"), "The key, told this once.", "cache-control")},
        errors=_CHANGE,
    ),
}
