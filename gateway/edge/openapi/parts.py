"""What `/openapi.json` is made of: operations, answers, parameters, and JSON Schema in short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.domain.errors import GatewayError

#: A JSON Schema (draft 2020-12, as OpenAPI 3.1 uses it).
Schema = Mapping[str, object]

#: Who may call: names of security schemes; an empty text is everybody.
TEAM, ADMIN, ANYBODY = "teamKey", "adminKey", ""

JSON = "application/json"
FORM = "multipart/form-data"

#: A picture as small as a picture can be, for examples.
ONE_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One way a call goes well.

    `content` is the schema for each media type; `headers` names components of `headers.py` beside
    those that every answer has.
    """

    description: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or a request header; none is required."""

    place: str
    name: str
    schema: Schema
    description: str

    def described(self) -> dict[str, object]:
        """Return it as OpenAPI writes it."""
        return {
            "name": self.name,
            "in": self.place,
            "required": False,
            "schema": dict(self.schema),
            "description": self.description,
        }


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as the document has it; path, method and id come from the route itself.

    `errors` are classes of `domain/errors.py`; what they become is read from `edge/errors.py`.
    """

    summary: str
    tag: str
    caller: str
    answers: Mapping[int, Answer]
    errors: tuple[type[GatewayError], ...]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    form: Schema | None = None
    body_required: bool = True
    error_headers: tuple[str, ...] = ()


def query(name: str, schema: Schema, description: str) -> Parameter:
    """Return a query parameter."""
    return Parameter("query", name, schema, description)


def header(name: str, schema: Schema, description: str) -> Parameter:
    """Return a request header."""
    return Parameter("header", name, schema, description)


def ok(schema: Schema, description: str, *headers: str) -> Answer:
    """Return an answer in JSON."""
    return Answer(description, {JSON: schema}, headers)


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
COUNT: Schema = {"type": "integer", "minimum": 0}

#: A day in a query; empty is none.
DAY_ASKED: Schema = {"anyOf": [{"type": "string", "format": "date"}, {"const": ""}]}


def ref(name: str) -> Schema:
    """Point to a component of `schemas.py`."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(fields: Mapping[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """Return an object with exactly these fields."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in optional],
        "additionalProperties": False,
    }


def each(schema: Schema) -> Schema:
    """Return a list of these."""
    return {"type": "array", "items": schema}


def named(schema: Schema) -> Schema:
    """Return an object whose fields are all of this kind, under names of any kind."""
    return {"type": "object", "additionalProperties": schema}


def const(value: object) -> Schema:
    """Return a value that is always the same."""
    return {"const": value}


def one_of(*values: object) -> Schema:
    """Return one of a list of values."""
    return {"enum": [*values]}


def listed(schema: Schema) -> Schema:
    """Return OpenAI's list."""
    return record({"object": const("list"), "data": each(schema)})


def nullable(schema: Schema) -> Schema:
    """Allow null as well."""
    kind = schema.get("type")
    if isinstance(kind, str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    if "enum" in schema:
        values = schema["enum"]
        rest = {name: value for name, value in schema.items() if name not in ("enum", "type")}
        return {**rest, "enum": [*values, None]} if isinstance(values, list) else schema
    return {"anyOf": [schema, {"type": "null"}]} if schema else schema
