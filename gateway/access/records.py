"""An account as the store keeps it: one version, the team's settings, and its keys. Pure.

The account of a team is one hash: ``version``, ``team`` (the settings as the file would have them,
without keys; absent when the team stands in the file) and ``key:<name>`` for every key. What a
later release adds to a record is kept when this one changes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from gateway.domain.accounts import NO_VERSION
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId

#: Written into every record. Readers take the next one too (design rule 23).
SCHEMA = 1

#: Settings as a file would have them, or a part of them.
Table = Mapping[str, Any]

TEAM_FIELD = "team"
_KEY_FIELD = "key:"

#: Fields of a key's record that are not its terms.
_OWN_FIELDS = ("schema", "digest", "prefix", "state", "created_ms", "expires_ms", "former")


class KeyState(StrEnum):
    """Whether a key may be used. Times of expiry and retirement stand beside it."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class FormerSecret:
    """What a key was before its rotation; it opens until `retires_ms`."""

    digest: bytes = field(repr=False)
    prefix: str
    retires_ms: int


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key made at run time. `prefix` may be shown; `terms` is what it may do, as in the file.

    Times are Unix milliseconds.
    """

    digest: bytes = field(repr=False)
    prefix: str
    created_ms: int
    terms: Table = field(default_factory=dict)
    expires_ms: int | None = None
    state: KeyState = KeyState.ACTIVE
    former: tuple[FormerSecret, ...] = ()

    def revoked(self) -> KeyRecord:
        """Return the key as nobody may use it, by none of its secrets."""
        return replace(self, state=KeyState.REVOKED)

    def rotated(self, digest: bytes, prefix: str, *, now_ms: int, grace_ms: int) -> KeyRecord:
        """Return the key with another secret; the one it had opens for `grace_ms` more."""
        former = FormerSecret(self.digest, self.prefix, now_ms + grace_ms)
        still = [secret for secret in (*self.former, former) if secret.retires_ms > now_ms]
        return replace(self, digest=digest, prefix=prefix, former=tuple(still))

    def expired(self, now_ms: int) -> bool:
        """Tell whether the key's time is over."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


@dataclass(frozen=True, slots=True)
class Account:
    """What the store knows of a team; `table` is None for a team that stands in the file."""

    team: TeamId
    version: str = NO_VERSION
    table: Table | None = None
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)


def key_field(name: str) -> str:
    """Name the field of an account that holds this key."""
    return f"{_KEY_FIELD}{name}"


def account_from(team: TeamId, fields: Mapping[str, str]) -> Account:
    """Read an account; an empty hash is a team without one.

    Raises StoreUnavailable when it was written by a release too new for this one.
    """
    table = _loaded(fields[TEAM_FIELD]) if TEAM_FIELD in fields else None
    if table is not None:
        table.pop("schema")
    return Account(
        team=team,
        version=fields.get("version", NO_VERSION),
        table=table,
        keys={
            name.removeprefix(_KEY_FIELD): _key_from(_loaded(text))
            for name, text in fields.items()
            if name.startswith(_KEY_FIELD)
        },
    )


def write_team(table: Table) -> str:
    """Return a team's settings as the account holds them."""
    return dump({"schema": SCHEMA, **table})


def write_key(record: KeyRecord) -> str:
    """Return a key as the account holds it: with its digests, never with a secret."""
    former = [
        {"digest": old.digest.hex(), "prefix": old.prefix, "retires_ms": old.retires_ms}
        for old in record.former
    ]
    return dump({**tell_key(record), "digest": record.digest.hex(), "former": former})


def tell_key(record: KeyRecord) -> dict[str, Any]:
    """Return what may be told about a key, in an audit entry for one: no secret, no digest."""
    return {
        **record.terms,
        "schema": SCHEMA,
        "prefix": record.prefix,
        "state": record.state.value,
        "created_ms": record.created_ms,
        "expires_ms": record.expires_ms,
        "former": [{"prefix": old.prefix, "retires_ms": old.retires_ms} for old in record.former],
    }


def dump(value: Table) -> str:
    """Return a record as JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _key_from(record: dict[str, Any]) -> KeyRecord:
    return KeyRecord(
        digest=bytes.fromhex(record["digest"]),
        prefix=record["prefix"],
        created_ms=record["created_ms"],
        terms={name: value for name, value in record.items() if name not in _OWN_FIELDS},
        expires_ms=record["expires_ms"],
        state=KeyState(record["state"]),
        former=tuple(
            FormerSecret(bytes.fromhex(old["digest"]), old["prefix"], old["retires_ms"])
            for old in record["former"]
        ),
    )


def _loaded(text: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(text, parse_float=Decimal)
    if record["schema"] > SCHEMA + 1:
        raise StoreUnavailable("This team's account was written by a newer release of the gateway.")
    return record
