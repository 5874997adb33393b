from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from gateway.edge.openapi.parts import (
    COUNT,
    TEXT,
    WHOLE,
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

VALUES: list[object] = [None, 0, -1, 1.5, "", "x", [], ["x"], {}, {"a": "x"}, {"a": 1, "b": 2}]


@pytest.mark.parametrize(
    ("schema", "taken"),
    [
        (TEXT, ["", "x"]),
        (WHOLE, [0, -1]),
        (COUNT, [0]),
        (const("x"), ["x"]),
        (one_of("x", None), [None, "x"]),
        (each(TEXT), [[], ["x"]]),
        (named(TEXT), [{}, {"a": "x"}]),
        (record({"a": TEXT}), [{"a": "x"}]),
        (record({"a": TEXT}, optional=("a",)), [{}, {"a": "x"}]),
        (nullable(TEXT), [None, "", "x"]),
        (nullable(one_of("x")), [None, "x"]),
        (nullable({"type": "string", "enum": ["x"]}), [None, "x"]),
        (nullable({"anyOf": [COUNT]}), [None, 0]),
        (nullable({}), VALUES),
    ],
)
def test_what_a_schema_takes(schema: Schema, taken: list[object]) -> None:
    """Each word of ours is the JSON Schema it stands for."""
    assert taken == [value for value in VALUES if Draft202012Validator(schema).is_valid(value)]


def test_lists_are_openais() -> None:
    """An object that says it is a list, with its data."""
    assert Draft202012Validator(listed(TEXT)).is_valid({"object": "list", "data": ["x"]})


def test_parameters_and_answers() -> None:
    """No parameter is required; an answer in JSON has one schema."""
    told = [
        query("limit", COUNT, "How many.").described(),
        header("prefer", TEXT, "A.").described(),
    ]

    assert [("query", False), ("header", False)] == [
        (each["in"], each["required"]) for each in told
    ]
    assert ok(ref("Task"), "It.", "location").content == {
        "application/json": {"$ref": "#/components/schemas/Task"}
    }
