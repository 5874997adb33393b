from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.access.records import FormerSecret, KeyRecord, tell_key
from gateway.edge.openapi.admin import OPERATIONS, admin_schemas
from gateway.edge.openapi.parts import ADMIN


def _takes(name: str, value: object) -> bool:
    schema: Any = {
        "$ref": f"#/components/schemas/{name}",
        "components": {"schemas": admin_schemas()},
    }
    return Draft202012Validator(schema).is_valid(json.loads(json.dumps(value)))


def test_a_key_is_told_as_described() -> None:
    """With its terms and former secrets; the secret itself only where it was just made."""
    record = KeyRecord(
        b"d", "gw-x…", 1, {"models": ["*"]}, former=(FormerSecret(b"e", "gw-y…", 2),)
    )
    told = {"object": "admin.key", "name": "web", **tell_key(record)}

    assert _takes("Key", told)
    assert not _takes("MadeKey", told)
    assert _takes("MadeKey", told | {"key": "gw-secret"})
    assert not _takes("Key", told | {"key": "gw-secret"})


@pytest.mark.parametrize(
    ("name", "body", "taken"),
    [
        ("NewKey", {"name": "web"}, True),
        ("NewKey", {"name": "web", "expires": None, "per_call_usd": 1}, True),
        ("NewKey", {"name": "Not A Name"}, False),
        ("NewKey", {}, False),
        ("NewTopUp", {"usd": "5", "budget": "total", "note": "x"}, True),
        ("NewTopUp", {"usd": -5.5, "budget": "total", "note": "x", "key": "web"}, True),
        ("NewTopUp", {"usd": "5", "budget": "total"}, False),
        ("NewTopUp", {"usd": "5", "budget": "total", "note": ""}, False),
        ("Rotation", {}, True),
        ("Rotation", {"grace": "1h"}, True),
        ("Rotation", {"grace": 1}, False),
    ],
)
def test_bodies(name: str, body: dict[str, Any], taken: bool) -> None:
    """What the admin API takes and refuses."""
    assert taken is _takes(name, body)


def test_all_of_it_needs_the_admin_key() -> None:
    """No operation of the admin API is for anybody else."""
    assert {ADMIN} == {operation.caller for operation in OPERATIONS.values()}
