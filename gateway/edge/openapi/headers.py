"""Response headers by name: what each tells, in the document and to browsers (CORS)."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.edge.openapi.parts import COUNT, Schema

#: Dollars in text, as `format_usd` writes them.
USD: Schema = {"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{2,6}$"}

_GO_DURATION: Schema = {
    "type": "string",
    "pattern": r"^([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?$|^[0-9]+ms$",
}
_SECONDS: Schema = {"type": "integer", "minimum": 1, "maximum": 60}

#: On every answer.
ALWAYS = ("x-request-id", "openai-processing-ms", "openai-version")

#: On answers about pictures that a task was made for.
TASK = (
    "x-gateway-task-id",
    "x-gateway-provider",
    "x-gateway-cost-usd",
    "x-gateway-budget-remaining-usd",
    "x-gateway-joined",
    "x-gateway-partial",
)

#: On streams.
STREAM = ("cache-control", "x-accel-buffering")

_RATES = {
    f"x-ratelimit-{what}-{resource}": (schema, f"{words} {images}.")
    for what, schema, words in (
        ("limit", COUNT, "The quota per minute of"),
        ("remaining", COUNT, "What is left of the quota per minute of"),
        ("reset", _GO_DURATION, "When the quota is whole again (Go's notation), of"),
    )
    for resource, images in (("requests", "calls"), ("input-images", "images"))
}

#: Of the quotas per minute, where the team has any.
RATES = tuple(_RATES)

#: Every header that may stand on an answer: its schema, and what it tells.
HEADERS: Mapping[str, tuple[Schema, str]] = {
    "x-request-id": (
        {"type": "string", "pattern": "^req_[0-9a-f]{32}$"},
        "The id of this very call, also in the server's log.",
    ),
    "openai-processing-ms": (COUNT, "Milliseconds until the answer began."),
    "openai-version": (
        {"type": "string", "enum": ["2020-10-01"]},
        "The version of OpenAI's API that this is.",
    ),
    "x-gateway-task-id": (
        {"type": "string", "pattern": "^imgtask_[0-9a-f]{32}$"},
        "The task of this call: see /v1/images/tasks.",
    ),
    "x-gateway-provider": ({"type": "string"}, "Who makes the picture."),
    "x-gateway-cost-usd": (USD, "What this call cost, in dollars; a joined call costs nothing."),
    "x-gateway-budget-remaining-usd": (USD, "What the tightest budget leaves, in dollars."),
    "x-gateway-joined": (
        {"type": "string", "enum": ["true"]},
        "The call was attached to a task that was paid for before.",
    ),
    "x-gateway-partial": (
        {"type": "string", "pattern": "^[0-9]+/[0-9]+$"},
        "How many of the pictures are there, when some failed.",
    ),
    **_RATES,
    "retry-after": (_SECONDS, "Seconds after which to try again."),
    "retry-after-ms": (COUNT, "The same in milliseconds."),
    "x-should-retry": (
        {"type": "string", "enum": ["true", "false"]},
        "Whether OpenAI's clients are to try again by themselves.",
    ),
    "allow": ({"type": "string"}, "The methods that this path takes."),
    "connection": ({"type": "string"}, "close: the connection ends with this answer."),
    "location": ({"type": "string"}, "Where the task is."),
    "preference-applied": ({"type": "string", "enum": ["respond-async"]}, "RFC 7240."),
    "cache-control": (
        {"type": "string", "enum": ["no-store", "no-cache"]},
        "Not to be kept on the way.",
    ),
    "x-accel-buffering": ({"type": "string", "enum": ["no"]}, "Not to be held back on the way."),
}


def components() -> dict[str, object]:
    """Return all headers as components of the document."""
    return {
        name: {"description": told, "required": name in ALWAYS, "schema": dict(schema)}
        for name, (schema, told) in HEADERS.items()
    }


def references(names: tuple[str, ...]) -> dict[str, object]:
    """Return references to these headers and to those of every answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*ALWAYS, *names)}
