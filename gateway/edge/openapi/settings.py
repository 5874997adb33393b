"""What the admin API takes of the settings file, read from the settings' own types."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from gateway.access.terms import NOT_TERMS
from gateway.config.team_settings import KeySettings, TeamSettings
from gateway.edge.openapi.parts import TEXT, Schema


class _Quiet(GenerateJsonSchema):
    """Defaults are left out, so that those JSON cannot hold are nothing to warn of."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"non-serializable-default"}  # noqa: RUF012 - as pydantic declares it


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
    schema = section.model_json_schema(
        by_alias=True, ref_template="#/components/schemas/{model}", schema_generator=_Quiet
    )
    plain: dict[str, Any] = _without_defaults(schema)
    return plain


def _without_defaults(schema: Any) -> Any:
    """Drop titles, which repeat the names, and defaults, which are the values they become."""
    if isinstance(schema, list):
        return [_without_defaults(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # Below `properties` and `$defs` the names are those of settings.
    named = {
        name: {inner: _without_defaults(part) for inner, part in value.items()}
        for name, value in schema.items()
        if name in ("properties", "$defs")
    }
    return {
        name: named.get(name) or _without_defaults(value)
        for name, value in schema.items()
        if name not in ("default", "title")
    }


#: How a time is written that a key ends at: a length from now, or a date.
EXPIRES: Schema = {
    **TEXT,
    "description": 'A length of time such as "30d", or a date to come such as 2027-01-31.',
}
