"""A request body → `ImageRequest`, refused with OpenAI's words in OpenAI's order.

The order in which several faults are reported is protocols/openai_images.md §2.1: model, unknown
fields, prompt, pictures, n, the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import orjson

from gateway.domain.catalog import Model, no_such_model
from gateway.domain.errors import InvalidRequest
from gateway.domain.images import ImageRequest, LinkedReference, Operation, References
from gateway.edge.fields import LINKS, check_offered, field_table, links_field, prompt_field
from gateway.edge.params import Param, missing, unknown, wrong_type

#: Models whose answers were links unless a call said otherwise; LangChain reads nothing else.
LINKED = ("dall-e-2", "dall-e-3")

#: Fields that an `ImageRequest` has another name or no place for.
_RENAMED = {"max_cost_usd": "max_cost_microusd"}


@dataclass(frozen=True, slots=True)
class FieldRules:
    """How bodies are read: which models there are, and how strictly.

    Where it is lenient, `default_model` stands in for a model that is not told; empty for none.
    """

    find_model: Callable[[str], Model | None]
    strict: bool = False
    default_model: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """A body that was read: the request, its model, and the values of the route's own fields."""

    request: ImageRequest
    model: Model
    own: Mapping[str, object]


def parse_generation(body: bytes, rules: FieldRules) -> ImageRequest:
    """Read the body of `POST /v1/images/generations`.

    Leniently it may name references by their links, as EvoLink's clients do: such a picture is made
    as an edit is, and the upstream fetches them itself. Raises InvalidRequest or UnsupportedImage
    for the first fault in OpenAI's order.
    """
    return read_generation(json_object(body), rules)


def read_generation(fields: Mapping[str, object], rules: FieldRules) -> ImageRequest:
    """Read the fields of a generation. Raises what `parse_generation` does."""
    if rules.strict:
        return read_fields(fields, rules, Operation.GENERATION).request
    _, model = _model(fields, rules)
    is_edit = fields.get(LINKS) is not None
    operation = Operation.EDIT if is_edit else Operation.GENERATION
    reading = read_fields(fields, rules, operation, own=(links_field(model),))
    links = cast("tuple[str, ...]", reading.own.get(LINKS, ()))
    references = References(tuple(LinkedReference(link) for link in links))
    return replace(reading.request, references=references)


def read_fields(
    fields: Mapping[str, object],
    rules: FieldRules,
    operation: Operation,
    *,
    own: Sequence[Param] = (),
    as_text: bool = False,
) -> Reading:
    """Read fields by the table of the operation; `own` are a route's, checked after the prompt.

    With `as_text` values are texts of a form. Raises InvalidRequest or UnsupportedImage for the
    first fault in OpenAI's order.
    """
    asked, model = _model(fields, rules)
    prompt = prompt_field(model, operation)
    table = (prompt, *own, *field_table(model, operation, strict=rules.strict))
    known = {param.name for param in table} | {"model"}
    for name in fields:
        if name not in known:
            raise unknown(name)
    if "prompt" not in fields:
        raise missing("prompt")
    given = dict(_checked(fields, table, as_text=as_text, null=as_text and not rules.strict))
    check_offered(given, model, operation, strict=rules.strict)
    ignored = {param.name for param in table if param.ignored}
    owned = {param.name for param in own}
    default_format = "url" if asked in LINKED else "b64_json"
    return Reading(
        # Every value was checked by the table for exactly the field it goes to.
        request=ImageRequest(
            model=model.name,
            **{"response_format": default_format}  # type: ignore[arg-type]
            | {
                _RENAMED.get(name, name): value
                for name, value in given.items()
                if name not in ignored | owned
            },
        ),
        model=model,
        own={name: value for name, value in given.items() if name in owned},
    )


def _checked(
    fields: Mapping[str, object], table: Sequence[Param], *, as_text: bool, null: bool
) -> Iterator[tuple[str, object]]:
    """Yield what was given, in the order of the table and without what is as good as left out."""
    for param in table:
        if param.name not in fields:
            continue
        value = fields[param.name]
        if as_text and isinstance(value, str):
            value = param.from_text(value, null=null)
        if not (param.nullable and value is None):
            yield param.name, param.read(value)


def json_object(body: bytes) -> dict[str, object]:
    """Return the JSON object of a body. Raises InvalidRequest."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest(
            "We could not parse the JSON body of your request. The OpenAI API expects a JSON"
            " payload, but what was sent was not valid JSON.",
            param=None,
            code=None,
        ) from None
    if not isinstance(parsed, dict):
        raise InvalidRequest(
            "The JSON body of your request must be an object.", param=None, code="invalid_type"
        )
    return parsed


def _model(fields: Mapping[str, object], rules: FieldRules) -> tuple[str, Model]:
    """Return the model that is asked for, as it was called and as it is."""
    name = fields.get("model")
    if name is None and rules.default_model and not rules.strict:
        name = rules.default_model
    elif "model" not in fields:
        raise missing("model")
    if not isinstance(name, str):
        raise wrong_type("model", "a string", name)
    model = rules.find_model(name)
    # Strictly an alias is the name of no model.
    if model is None or (rules.strict and model.name != name):
        raise no_such_model(name)
    if not model.offers:
        raise no_such_model(name, successor="" if rules.strict else model.successor)
    return name, model
