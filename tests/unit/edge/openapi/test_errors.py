"""No error, and no code of one, is missing from the document."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.domain.errors import (
    BodyTooLarge,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    RateLimited,
    UnsupportedImage,
)
from gateway.edge.errors import ROWS, to_http
from gateway.edge.openapi.document import OPERATIONS
from gateway.edge.openapi.errors import CODES, SPECIMENS, envelope, responses, table
from gateway.edge.openapi.headers import ALWAYS

PACKAGE = Path(gateway.__file__).parent


def _raised() -> set[tuple[str, str | None]]:
    """Return every (class, code) that stands in the source where an error is made."""
    calls = [
        node
        for path in PACKAGE.rglob("*.py")
        if "simulator" not in path.parts and path.parent.name != "openapi"
        # EvoLink's own surface is described by EvoLink.
        if not path.name.startswith("evolink")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return {
        (call.func.id, keyword.value.value)
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in {kind.__name__ for kind in CODES}
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }


def test_there_is_one_of_every_error() -> None:
    """An error with a row in `edge/errors.py` needs a specimen in `edge/openapi/errors.py`."""
    assert ROWS.keys() == SPECIMENS.keys()


def test_every_code_that_is_raised_is_known() -> None:
    """A new code is added to CODES in `edge/openapi/errors.py`."""
    known = {(kind.__name__, code) for kind, codes in CODES.items() for code in codes}

    assert set() == _raised() - known


def test_every_error_is_said_of_some_operation() -> None:
    """But the one that methods get which are not in the document."""
    said = {kind for operation in OPERATIONS.values() for kind in operation.errors}

    assert ROWS.keys() - said == {MethodNotAllowed}


@pytest.mark.parametrize("kind", SPECIMENS)
def test_the_envelope_has_every_type_and_code(kind: type[GatewayError]) -> None:
    """What an error becomes is within the schema, and it is in the table."""
    fields: Any = envelope()["properties"]
    properties = fields["error"]["properties"]
    for specimen in SPECIMENS[kind]:
        told = to_http(specimen)

        assert told.type in properties["type"]["enum"]
        assert told.code in properties["code"]["enum"]
        assert f"| {told.status} | `{told.type}` | `{told.code or 'null'}` |" in table()


def test_responses_are_grouped_by_status() -> None:
    """Statuses in order, each with the codes and headers of its errors."""
    told: Any = responses((RateLimited, InvalidRequest, UnsupportedImage), ("x-gateway-task-id",))

    assert ["400", "429"] == [*told]
    assert "`unpriced`" in told["400"]["description"]
    assert "`invalid_png_output_compression`" in told["400"]["description"]
    headers = {*ALWAYS, "x-gateway-task-id"}
    assert headers | {"retry-after", "retry-after-ms"} == told["429"]["headers"].keys()


def test_refusals_before_anything_is_known_tell_of_no_task() -> None:
    """Without a key or a body there is no task and no quota."""
    told: Any = responses((NotAuthenticated, BodyTooLarge, NotFound), ("x-gateway-task-id",))

    assert ["404"] == [status for status in told if "x-gateway-task-id" in told[status]["headers"]]
