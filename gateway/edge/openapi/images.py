"""Making pictures: the bodies, from the very tables that check them, and the operations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.domain.catalog import Model
from gateway.domain.errors import (
    BadReference,
    BodyTooLarge,
    BodyTooSlow,
    BudgetExceeded,
    CostLimitExceeded,
    DailyQuotaExceeded,
    GatewayError,
    IdempotencyConflict,
    InternalError,
    InvalidRequest,
    ModelNotAllowed,
    ModerationBlocked,
    NotAuthenticated,
    NotFound,
    PictureExpired,
    RateLimited,
    ShuttingDown,
    StillRunning,
    StorageUnavailable,
    StoreUnavailable,
    SubmitUnknown,
    TaskRunning,
    TooManyConnections,
    UnsupportedImage,
    UpstreamFailed,
    UpstreamUnavailable,
)
from gateway.domain.images import Operation as Made
from gateway.edge.edits import FORM_PICTURES, JSON_PICTURES
from gateway.edge.fields import LINKS, field_table, links_field, offered, prompt_field
from gateway.edge.openapi.headers import RATES, STREAM, TASK
from gateway.edge.openapi.parts import (
    DAY_ASKED,
    JSON,
    ONE_PIXEL,
    TEAM,
    TEXT,
    Answer,
    Operation,
    Schema,
    const,
    each,
    header,
    listed,
    nullable,
    ok,
    one_of,
    query,
    record,
    ref,
)
from gateway.edge.params import Param
from gateway.edge.parse import FieldRules
from gateway.edge.sse import MEDIA_TYPE
from gateway.service.calls import MAX_KEY_CHARS
from gateway.service.tasks import MAX_PAGE, PAGE
from gateway.service.usage import MAX_DAYS

#: What may happen to any call with a team's key.
CALL: tuple[type[GatewayError], ...] = (NotAuthenticated, StoreUnavailable, InternalError)

#: What may happen to any call with a body.
BODY: tuple[type[GatewayError], ...] = (BodyTooLarge, BodyTooSlow, InvalidRequest)

#: What a body may ask for that is not made here.
_REFUSED = (*BODY, UnsupportedImage, ModelNotAllowed)

#: What the fields mean; the bounds stand in the table of fields.
_MEANINGS = {
    "model": "The model, of those that /v1/models lists.",
    "prompt": "What is on the picture.",
    "images": "The pictures to edit: links, or data URLs of png, jpeg or webp.",
    "image": "The pictures to edit, png, jpeg or webp; also as image[].",
    "mask": "A png as large as the first picture; what is transparent is painted anew.",
    "n": "How many pictures.",
    "size": "WIDTHxHEIGHT in pixels; auto is the team's or the model's default.",
    "quality": "auto is the team's or the model's default.",
    "output_format": "What the picture is delivered as, whatever the upstream makes.",
    "output_compression": "Quality of webp and jpeg in percent.",
    "moderation": "How strict the upstream's safety system is.",
    "stream": "Whether the pictures come as events, each as soon as it is there.",
    "partial_images": "How many unfinished pictures a stream may send; no upstream here has any.",
    "response_format": "What pictures are answered as; events always have the picture itself.",
    "image_urls": "Links to pictures that it is made from, which the upstream fetches itself.",
    "style": "Taken from clients of other models, and without effect.",
    "input_fidelity": "Taken and without effect.",
    "user": "The end user, of whom only a hash is kept.",
    "safety_identifier": "As user, before which it counts.",
    "max_cost_usd": "The most this call may cost, in dollars; a gateway's extension.",
}

#: A png is never compressed: another format, or nothing about its compression.
_COMPRESSION: Sequence[Schema] = (
    {"properties": {"output_format": one_of("webp", "jpeg")}, "required": ["output_format"]},
    {"properties": {"output_compression": one_of(100, None)}},
)


def generation_schemas(models: Sequence[Model], rules: FieldRules) -> dict[str, Schema]:
    """Return the body of a generation, one component for each model that can do one."""
    return _schemas("Generation", Made.GENERATION, models, rules, ())


def edit_schemas(models: Sequence[Model], rules: FieldRules) -> dict[str, Schema]:
    """Return the bodies of an edit, as JSON and as a form, as those of generations."""
    return {
        **_schemas("Edit", Made.EDIT, models, rules, JSON_PICTURES),
        **_schemas("EditForm", Made.EDIT, models, rules, FORM_PICTURES),
    }


def _schemas(
    name: str,
    operation: Made,
    models: Sequence[Model],
    rules: FieldRules,
    pictures: Sequence[Param],
) -> dict[str, Schema]:
    # A model's name may hold what a component's may not.
    bodies = {
        f"{name}_{re.sub(r'[^A-Za-z0-9._-]', '_', model.name)}": _body(
            model, operation, rules, pictures
        )
        for model in models
        if model.offers_for(operation)
    }
    # Where no model can do it, nothing is taken.
    any_of: Schema = {"anyOf": [ref(each) for each in bodies]} if bodies else {"not": {}}
    return {name: any_of, **bodies}


def _body(model: Model, operation: Made, rules: FieldRules, pictures: Sequence[Param]) -> Schema:
    is_default = model.name == rules.default_model and not rules.strict
    name = const(model.name)
    fields: dict[str, Schema] = {
        "model": _told("model", nullable(name) if is_default else name),
        "prompt": _told("prompt", prompt_field(model, operation).check.schema),
        **{param.name: _told(param.name, _picture(param)) for param in pictures},
        **_fields(model, operation, strict=rules.strict),
    }
    example = {"model": model.name, "prompt": "a small red fox", "quality": "low"}
    required = {"prompt", *(param.name for param in pictures if not param.nullable)}
    if not is_default:
        required.add("model")
    optional = tuple(name for name in fields if name not in required)
    body = {**record(fields, optional=optional), "anyOf": [*_COMPRESSION]}
    if operation is Made.GENERATION:
        return {**body, "examples": [example, example | {"stream": True}]}
    if pictures is JSON_PICTURES:
        return {**body, "examples": [{**example, "images": [{"image_url": ONE_PIXEL}]}]}
    return body


def _picture(param: Param) -> Schema:
    """Return what a field with pictures may be; a form has no null."""
    is_null_allowed = param.nullable and param in JSON_PICTURES
    return nullable(param.check.schema) if is_null_allowed else param.check.schema


def _fields(model: Model, operation: Made, *, strict: bool) -> Mapping[str, Schema]:
    """Return the fields beside model and prompt."""
    made = offered(model, operation, strict=strict)
    fields = {}
    for param in field_table(model, operation, strict=strict):
        values = made.get(param.name)
        if values == ():
            schema: Schema = {"type": "null"}
        else:
            schema = param.check.schema if values is None else one_of(*values)
            schema = nullable(schema) if param.nullable else schema
        fields[param.name] = _told(param.name, schema)
    if operation is Made.GENERATION and not strict:
        fields[LINKS] = _told(LINKS, nullable(links_field(model).check.schema))
    return fields


def _told(name: str, schema: Schema) -> Schema:
    told = [_MEANINGS.get(name, ""), str(schema.get("description", ""))]
    description = " ".join(text for text in told if text)
    return {**schema, "description": description} if description else schema


_TASK_ANSWER = ok(ref("Task"), "The task as it stands.", *TASK[:1])

#: One event of a stream; comments between them are left to who reads.
_EVENT: Schema = record(
    {
        "event": TEXT,
        "data": {"type": "string", "contentMediaType": JSON, "contentSchema": ref("StreamEvent")},
    }
)

#: A query without a value is one that was left out.

_MAKING = Operation(
    summary="Make pictures from words",
    description=(
        "Answers when the pictures are done, or with the task at once when the call says"
        " `Prefer: respond-async`. A retry of a call is attached to the task of the call.\n\n"
        "With `stream` the answer is events (`StreamEvent`): one `image_generation.completed`"
        " for each picture, or one `error` that ends it with what the status would have been."
        " Comments keep it awake."
    ),
    tag="images",
    caller=TEAM,
    parameters=(
        header("prefer", TEXT, "`respond-async` answers 202 at once (RFC 7240 §4.1)."),
        header(
            "idempotency-key",
            {"type": "string", "maxLength": MAX_KEY_CHARS},
            "The same key with the same body is the same call, for a day.",
        ),
        header("x-stainless-retry-count", TEXT, "Which retry this is, as OpenAI's clients say it."),
    ),
    body=ref("Generation"),
    answers={
        200: Answer(
            "The pictures, or a stream of them.",
            {JSON: ref("Images"), MEDIA_TYPE: _EVENT},
            (*TASK, *RATES, *STREAM),
        ),
        202: ok(
            ref("Task"),
            "The task, which goes on without the call.",
            *(*TASK, *RATES, "location", "preference-applied"),
        ),
    },
    errors=(
        *CALL,
        *_REFUSED,
        ModerationBlocked,
        BadReference,
        BudgetExceeded,
        CostLimitExceeded,
        DailyQuotaExceeded,
        RateLimited,
        IdempotencyConflict,
        PictureExpired,
        UpstreamUnavailable,
        UpstreamFailed,
        SubmitUnknown,
        StillRunning,
        ShuttingDown,
        TooManyConnections,
    ),
    error_headers=(*TASK, *RATES),
)

OPERATIONS: Mapping[str, Operation] = {
    "images.generations": _MAKING,
    "images.edits": replace(
        _MAKING,
        summary="Make pictures from words and pictures",
        description=(
            "As a form or as JSON, with one to sixteen pictures. The boundary of a form does not"
            " matter to what is a retry of what. With `stream` the events are"
            " `image_edit.completed`; for the rest it is as /v1/images/generations."
        ),
        body=ref("Edit"),
        form=ref("EditForm"),
        errors=(*_MAKING.errors, StorageUnavailable),
    ),
    "images.quotes": Operation(
        summary="Price a generation or an edit",
        description=(
            "Takes the body of a generation or an edit, refuses what those would, and spends"
            " nothing. What an edit links to is not looked at."
        ),
        tag="images",
        caller=TEAM,
        body={"anyOf": [ref("Generation"), ref("Edit")]},
        form=ref("EditForm"),
        answers={200: ok(ref("Quote"), "The price.", "x-gateway-budget-remaining-usd")},
        errors=(*CALL, *_REFUSED, BadReference, StorageUnavailable),
    ),
    "tasks.list": Operation(
        summary="List the team's tasks",
        description="The newest first, without their pictures.",
        tag="tasks",
        caller=TEAM,
        parameters=(
            query("after", TEXT, "The last task of the page before."),
            query(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
                "How many.",
            ),
        ),
        answers={
            200: ok(
                record(
                    {
                        "object": const("list"),
                        "data": each(ref("Task")),
                        "first_id": nullable(TEXT),
                        "last_id": nullable(TEXT),
                        "has_more": {"type": "boolean"},
                    }
                ),
                "A page.",
            )
        },
        errors=(*CALL, InvalidRequest),
    ),
    "tasks.show": Operation(
        summary="Show a task, with its pictures once they are there",
        tag="tasks",
        caller=TEAM,
        parameters=(
            query(
                "data",
                {"enum": ["true", "links", "false"]},
                "links leaves the pictures out, false the links as well.",
            ),
        ),
        answers={200: _TASK_ANSWER},
        errors=(*CALL, InvalidRequest, NotFound),
        error_headers=TASK[:1],
    ),
    "tasks.cancel": Operation(
        summary="Cancel what was not submitted yet",
        description="What was submitted goes on, and may be charged.",
        tag="tasks",
        caller=TEAM,
        answers={200: _TASK_ANSWER},
        errors=(*CALL, NotFound),
        error_headers=TASK[:1],
    ),
    "tasks.delete": Operation(
        summary="Delete a task that is over, with its pictures and links",
        description=(
            "At once and on every gateway; what it cost stays in the books. One that is not over is"
            " refused with 409: cancel it, or wait for its end."
        ),
        tag="tasks",
        caller=TEAM,
        answers={
            200: ok(
                record({"id": TEXT, "object": const("image.task"), "deleted": {"type": "boolean"}}),
                "It is gone.",
                *TASK[:1],
            )
        },
        errors=(*CALL, NotFound, TaskRunning),
        error_headers=TASK[:1],
    ),
    "models.list": Operation(
        summary="List the models the team may use",
        tag="models",
        caller=TEAM,
        answers={200: ok(listed(ref("Model")), "The models.")},
        errors=CALL,
    ),
    "models.show": Operation(
        summary="Show a model",
        tag="models",
        caller=TEAM,
        answers={200: ok(ref("Model"), "The model.")},
        errors=(*CALL, NotFound),
    ),
    "usage": Operation(
        summary="Show what the team spent and what its budgets leave",
        description=f"UTC days, both included; at most {MAX_DAYS} of them.",
        tag="usage",
        caller=TEAM,
        parameters=(
            query(
                "since",
                DAY_ASKED,
                "The first day; without it, the first of the month of the last.",
            ),
            query("until", DAY_ASKED, "The last day; without it, today."),
        ),
        answers={200: ok(ref("Usage"), "Budgets and sums.")},
        errors=(*CALL, InvalidRequest),
    ),
    "callbacks": Operation(
        summary="Hear from an upstream that a render has ended",
        description=(
            "For upstreams. The token is in the URL that they were given; what the body says is"
            " never believed, only a reason to look."
        ),
        tag="callbacks",
        caller="",
        body={},
        body_required=False,
        answers={200: Answer("Heard.")},
        errors=(NotFound, BodyTooLarge, BodyTooSlow, StoreUnavailable, InternalError),
    ),
}
