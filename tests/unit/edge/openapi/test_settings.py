from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.access.terms import check_key, check_team
from gateway.config.problems import ConfigError
from gateway.config.team_settings import KeySettings, TeamSettings
from gateway.edge.openapi.parts import record
from gateway.edge.openapi.settings import key_terms, setting_schemas


def _takes(name: str, table: dict[str, Any]) -> bool:
    schemas = {**setting_schemas(), "KeyTerms": record(key_terms(), optional=tuple(key_terms()))}
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
    ).is_valid(table)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"models": ["gpt-image-*"], "timezone": "UTC"},
        {"budgets": [{"usd": 50, "per": "month", "alert_at": ["0.5", "1"]}]},
        {"budgets": [{"usd": "0.000001", "per": "day", "name": "x-1"}]},
        {"budgets": [{"usd": "0.0000001", "per": "day"}]},
        {"budgets": [{"usd": 50}]},
        {"budgets": [{"usd": 50, "per": "year"}]},
        {"budgets": [{"usd": -1, "per": "day"}]},
        {"budgets": [{"usd": 5, "per": "day", "name": "Not A Name"}]},
        {"limits": {"queue": "30s", "requests_per_minute": 5}},
        {"limits": {"queue": 30}},
        {"limits": {"requests_per_minute": -1}},
        {"limits": {"unknown": 1}},
        {"per_call_usd": "1.5", "usage_by_user": True},
        {"usage_by_user": "yes"},
        {"user_budget": {"usd": 5, "per": "day"}},
        {"keys": []},
        {"models": "gpt-image-*"},
    ],
    ids=lambda table: json.dumps(table)[:60],
)
def test_the_schema_of_a_team_takes_what_the_admin_api_takes(table: dict[str, Any]) -> None:
    """Read from the very types that check a settings file."""
    try:
        check_team("alpha", table)
        taken = True
    except ConfigError:
        taken = False

    assert taken == _takes("TeamSettings", table)


@pytest.mark.parametrize(
    "terms", [{}, {"models": ["*"], "per_call_usd": 1}, {"sha256": ""}, {"expires": "30d"}]
)
def test_the_schema_of_a_key_takes_what_the_admin_api_takes(terms: dict[str, Any]) -> None:
    """Its name, its secret and its end are not among the terms."""
    try:
        check_key("alpha", "web", terms)
        taken = True
    except ConfigError:
        taken = False

    assert taken == _takes("KeyTerms", terms)


def test_every_setting_is_there_with_its_meaning() -> None:
    """All of a team's settings but its keys, and a key's terms; titles and defaults are not."""
    schemas: Any = setting_schemas()
    team, key = TeamSettings.model_fields, KeySettings.model_fields

    settings = {field.alias or name for name, field in team.items()} - {"keys"}
    assert settings == schemas["TeamSettings"]["properties"].keys()
    assert (
        {"models", "budgets", "per_call_usd"}
        == key_terms().keys()
        <= {field.alias or name for name, field in key.items()}
    )
    budget = schemas["BudgetSettings"]["properties"]["name"]
    assert {"type", "pattern", "description"} == budget.keys()
