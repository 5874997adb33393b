"""Settings as they are in force, in the words of the file: what it says, and every default.

What may hold a secret (a field of type SecretStr) is shown only as far as it is no secret: an
address without its user and password.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.config.settings import Settings

#: Stands for what is not shown.
MASK = "**********"

_DURATIONS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))
_MICROUSD = 1_000_000
#: Defaults that the file has words for.
_WORDS = {("keep_prompts_ms", 0): "until_done"}


def shown(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a settings file that says all that this one means, ready to be written as TOML.

    `document` is a file that `load` accepts, as tomllib reads it. What has no value ("not set")
    and cannot be written as one is left out.
    """
    return _table(Settings, document)


def _table(section: type[BaseModel], written: Mapping[str, Any]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        key = field.alias or name
        if key in written:
            rows[key] = _as_written(field.annotation, written[key])
        elif not field.is_required():
            value = _as_default(name, field)
            if value is not None:
                rows[key] = value
    return rows


def _as_written(kind: Any, value: Any) -> Any:
    if kind is SecretStr:
        return masked(value)
    if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, Mapping):
        return _table(kind, value)
    inner = get_args(kind)
    if isinstance(value, Mapping) and inner:
        # Of a table by names the last argument is the kind of its values; of `X | None` the first.
        mapping = isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping)
        if not mapping:
            return _as_written(inner[0], value)
        return {name: _as_written(inner[-1], part) for name, part in value.items()}
    if isinstance(value, list) and inner:
        return [_as_written(inner[0], part) for part in value]
    return value


def _as_default(name: str, field: FieldInfo) -> Any:
    """Return a default as the file would write it; None when it means "not set"."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return _table(type(value), {})
    if isinstance(value, Mapping):
        return dict(value)
    if name.endswith("_ms") and value is not None:
        return _WORDS.get((name, value)) or _in_units(value, _DURATIONS)
    if name.endswith("_bytes") and value is not None:
        return _in_units(value, _SIZES)
    if name.endswith("_microusd") and value is not None:
        return Decimal(value) / _MICROUSD
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return a value as TOML has it."""
    match value:
        case SecretStr():
            return masked(value.get_secret_value())
        case Fraction():
            return Decimal(value.numerator) / value.denominator
        case tzinfo() | Path():
            return str(value)
        case Enum():
            return value.value
        case tuple() | list():
            return [_plain(part) for part in value]
    return value


def _in_units(amount: int, units: tuple[tuple[str, int], ...]) -> str:
    """Return an amount in the largest unit that divides it; zero in the last but one."""
    if amount == 0:
        return f"0{units[-2][0]}"
    unit, size = next((unit, size) for unit, size in units if amount % size == 0)
    return f"{amount // size}{unit}"


def masked(address: str) -> str:
    """Return an address without its user and password; other texts that are not a word as MASK."""
    if not address or address.isalpha():
        return address
    parts = urlsplit(address)
    if not parts.scheme:
        return MASK
    _, at, hosts = parts.netloc.rpartition("@")
    query = "" if not parts.query else MASK
    return urlunsplit(parts._replace(netloc=f"{MASK}{at}{hosts}" if at else hosts, query=query))
