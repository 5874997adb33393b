"""Answers in JSON Schema: every field that is answered, under the names of `components`."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.catalog import Channel
from gateway.domain.limits import Period, Scope
from gateway.domain.pricing import QuoteBasis
from gateway.edge.openapi.headers import USD
from gateway.edge.openapi.parts import (
    COUNT,
    TEXT,
    WHOLE,
    Schema,
    const,
    each,
    named,
    nullable,
    one_of,
    record,
    ref,
)
from gateway.edge.streams import COMPLETED
from gateway.ledger.rollups import Grouping
from gateway.service.tasks import Status

_AMOUNT = ref("Amount")
_MAYBE_AMOUNT = nullable(_AMOUNT)
_TIME: Schema = {"type": "string", "format": "date-time"}
_DAY: Schema = {"type": "string", "format": "date"}
_SIZE: Schema = {"type": "string", "pattern": "^[0-9]+x[0-9]+$"}

_BUDGET: Mapping[str, Schema] = {
    "scope": one_of(*(scope.value for scope in Scope)),
    "name": TEXT,
    "per": one_of(*(period.value for period in Period)),
    "limit": _AMOUNT,
    "topped_up": _AMOUNT,
    "spent": _AMOUNT,
    "held": _AMOUNT,
    "remaining": _AMOUNT,
    "resets_at": nullable(_TIME),
}

_SPEND: Mapping[str, Schema] = {
    "images": COUNT,
    "cost": _AMOUNT,
    "possible": _AMOUNT,
    "adjusted": _AMOUNT,
    "categories": named(_AMOUNT),
    "tokens": named(WHOLE),
}

_USAGE = record(
    {
        "input_tokens": COUNT,
        "input_tokens_details": record({"image_tokens": COUNT, "text_tokens": COUNT}),
        "output_tokens": COUNT,
        "output_tokens_details": record({"image_tokens": COUNT, "text_tokens": COUNT}),
        "total_tokens": COUNT,
    }
)

_URL: Schema = {"type": "string", "format": "uri"}
_BACKGROUND = one_of("opaque", "transparent")

#: What is told of pictures that were made.
_MADE: Mapping[str, Schema] = {
    "output_format": one_of("png", "jpeg", "webp"),
    "quality": TEXT,
    "size": _SIZE,
    "safety_identifier": TEXT,
    "usage": ref("TokenUsage"),
}

_IMAGES = record(
    {
        "created": COUNT,
        "background": _BACKGROUND,
        "data": {
            "anyOf": [
                each(record({name: kind, "revised_prompt": TEXT}, optional=("revised_prompt",)))
                for name, kind in (("b64_json", TEXT), ("url", _URL))
            ],
            "description": "The pictures, or links to them: as `response_format` says."
            " `revised_prompt` is what the upstream made of the prompt, where it refines them.",
        },
        **_MADE,
    },
    optional=("safety_identifier", "usage"),
)

_STREAM_EVENT: Schema = {
    "oneOf": [
        record(
            {
                "type": one_of(*COMPLETED.values()),
                "b64_json": TEXT,
                "created_at": COUNT,
                "background": _BACKGROUND,
                **_MADE,
            },
            optional=("safety_identifier", "usage"),
        ),
        record({"type": const("error"), "error": ref("Error/properties/error")}),
    ]
}

_STATUS = one_of(*(status.value for status in Status))

_RENDER: Mapping[str, Schema] = {
    "index": COUNT,
    "status": _STATUS,
    "cost_usd": nullable(USD),
    "error": nullable(TEXT),
}

_TASK_FIELDS: Mapping[str, Schema] = {
    "id": TEXT,
    "object": const("image.task"),
    "status": _STATUS,
    "created": COUNT,
    "completed": nullable(COUNT),
    "model": TEXT,
    "operation": one_of("generation", "edit"),
    "size": _SIZE,
    "quality": TEXT,
    "output_format": one_of("png", "jpeg", "webp"),
    "n": COUNT,
    "key": TEXT,
    "provider": TEXT,
    "cost_usd": USD,
    "renders": each(record(_RENDER)),
    "error": nullable(record({"message": TEXT, "code": TEXT})),
    "usage": ref("TokenUsage"),
}

_TASK = record(
    {
        **_TASK_FIELDS,
        "prompt": TEXT,
        "data": each(record({"b64_json": TEXT, "url": TEXT}, optional=("b64_json",))),
    },
    optional=("prompt", "usage", "data"),
)

_QUOTE = record(
    {
        "object": const("image.quote"),
        "model": TEXT,
        "operation": one_of("generation", "edit"),
        "size": _SIZE,
        "quality": TEXT,
        "references": COUNT,
        "n": COUNT,
        "provider": TEXT,
        "basis": one_of(*(basis.value for basis in QuoteBasis)),
        "hold": _MAYBE_AMOUNT,
        "list_price": _MAYBE_AMOUNT,
        "price": named(_MAYBE_AMOUNT),
        "tokens": named(COUNT),
        "offers": each(
            record(
                {
                    "provider": TEXT,
                    "upstream_model": TEXT,
                    "channel": one_of(*(channel.value for channel in Channel)),
                    "chosen": {"type": "boolean"},
                    "hold": _MAYBE_AMOUNT,
                    "list_price": _MAYBE_AMOUNT,
                    "source": TEXT,
                    "date": TEXT,
                }
            )
        ),
        "budgets": each(ref("Budget")),
    }
)

_TEAM_USAGE = record(
    {
        "object": const("usage"),
        "team": TEXT,
        "key": TEXT,
        "since": _DAY,
        "until": _DAY,
        "budgets": each(ref("Budget")),
        "quotas": each(ref("Quota")),
        "total": record(_SPEND),
        "by_day": each(record({"day": _DAY, **_SPEND})),
        "by_model": each(record({"model": TEXT, **_SPEND})),
        "by_key": each(record({"key": TEXT, **_SPEND})),
    }
)

#: Components by name, but those that are made from the catalogue and the settings.
SCHEMAS: Mapping[str, Schema] = {
    "Amount": record({"usd": USD, "microusd": WHOLE}),
    "Budget": record(_BUDGET),
    "Quota": record(
        {
            "name": one_of(
                "requests_per_minute", "images_per_minute", "images_per_day", "in_flight_images"
            ),
            "limit": COUNT,
            "used": COUNT,
            "remaining": COUNT,
            "resets_at": nullable(_TIME),
        }
    ),
    "AdminBudget": record(
        {"object": const("admin.budget"), "team": TEXT, "owner": TEXT, **_BUDGET}
    ),
    "TopUp": record(
        {
            "object": const("admin.top_up"),
            "id": TEXT,
            "entry": TEXT,
            "budget": record({"team": TEXT, "owner": TEXT, **_BUDGET}),
        }
    ),
    "TokenUsage": _USAGE,
    "Images": _IMAGES,
    "StreamEvent": _STREAM_EVENT,
    "Task": _TASK,
    "Quote": _QUOTE,
    "Usage": _TEAM_USAGE,
    "AdminUsage": record(
        {
            "object": const("admin.usage"),
            "since": _DAY,
            "until": _DAY,
            "complete_from": nullable(_DAY),
            "by": one_of(*Grouping),
            "groups": each(record({"name": TEXT, **_SPEND})),
            "total": record(_SPEND),
        }
    ),
    "AdminTask": record(
        {
            **_TASK_FIELDS,
            "renders": each(
                record(
                    {
                        **_RENDER,
                        "state": TEXT,
                        "upstream_id": TEXT,
                        "attempt_id": TEXT,
                        "tries": COUNT,
                        "submitted": nullable(COUNT),
                        "basis": nullable(TEXT),
                    }
                )
            ),
            "team": TEXT,
            "user": TEXT,
            "owner": TEXT,
            "epoch": COUNT,
            "cancelled": {"type": "boolean"},
            "detached": {"type": "boolean"},
            "held_usd": USD,
            "possible_charge_usd": USD,
        },
        optional=("usage",),
    ),
    "Model": record(
        {
            "id": TEXT,
            "object": const("model"),
            "created": COUNT,
            "owned_by": TEXT,
            "shutdown_date": nullable(_DAY),
        }
    ),
    "Readiness": record({"ready": {"type": "boolean"}, "checks": named(TEXT)}),
}
