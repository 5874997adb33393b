"""The settings as a JSON Schema, made from their types, for editors and for the admin API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from gateway.config.live import FIXED, LIVE, is_live
from gateway.config.problems import Place, dotted
from gateway.config.settings import Settings

#: What the schema of the file calls itself; editors know a TOML file's by its first line.
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Quiet(GenerateJsonSchema):
    """Defaults are left out, so that those JSON cannot hold are nothing to warn of."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {"non-serializable-default"}  # noqa: RUF012 - as pydantic declares it


def file_schema() -> dict[str, Any]:
    """Return the schema of a settings file (JSON Schema 2020-12): names, values, meanings.

    It knows no rule that spans several settings: `gateway check` does.
    """
    schema = section_schema(Settings)
    _tell_fixed(schema, schema, ())
    return {"$schema": DIALECT, "title": "Image gateway", **schema}


def _tell_fixed(schema: dict[str, Any], table: dict[str, Any], place: Place) -> None:
    """Say of each setting that a running gateway does not take over that it needs a restart."""
    for name, setting in table.get("properties", {}).items():
        below: Place = (*place, name)
        entries = [
            setting.get("additionalProperties"),
            *setting.get("patternProperties", {}).values(),
        ]
        named = next((entry for entry in entries if isinstance(entry, dict)), None)
        inner = schema["$defs"].get((named or setting).get("$ref", "").removeprefix("#/$defs/"))
        if inner is not None and dotted(below) not in FIXED | LIVE:
            _tell_fixed(schema, inner, below if named is None else (*below, ""))
        elif not is_live(below):
            setting["description"] = f"{setting.get('description', '')} Needs a restart.".strip()


def section_schema(section: type[BaseModel], *, refs: str = "#/$defs/{model}") -> dict[str, Any]:
    """Return the schema of one table, with those inside it under `$defs`, referred to as `refs`."""
    schema = section.model_json_schema(by_alias=True, ref_template=refs, schema_generator=_Quiet)
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
