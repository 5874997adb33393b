"""What the admin API takes of the settings file, read from the settings' own types."""

from __future__ import annotations

from typing import Any

from gateway.access.terms import NOT_TERMS
from gateway.config.json_schema import section_schema
from gateway.config.team_settings import KeySettings, TeamSettings
from gateway.edge.openapi.parts import TEXT, Schema


def setting_schemas() -> dict[str, Schema]:
    """Return components: a team's settings, and the tables inside them."""
    team = _schema_of(TeamSettings)
    inner = team.pop("$defs")
    inner.pop("KeySettings")
    team["properties"].pop("keys")
    return {**inner, "TeamSettings": team}


def key_terms() -> dict[str, Schema]:
    """Return the fields of a key's terms: what it may do, out of its team's."""
    fields = _schema_of(KeySettings)["properties"]
    return {name: schema for name, schema in fields.items() if name not in NOT_TERMS}


def _schema_of(section: type[KeySettings | TeamSettings]) -> dict[str, Any]:
    return section_schema(section, refs="#/components/schemas/{model}")


#: How a time is written that a key ends at: a length from now, or a date.
EXPIRES: Schema = {
    **TEXT,
    "description": 'A length of time such as "30d", or a date to come such as 2027-01-31.',
}
