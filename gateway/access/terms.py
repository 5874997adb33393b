"""What teams and keys made at run time may do, by the very types and rules of the settings file.

Written, it is checked as strictly as a file, all mistakes at once. Read, it is taken leniently: a
setting that a later release knows and this one does not is passed over.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from gateway.access.records import Account, Table
from gateway.config.catalog import packaged
from gateway.config.credentials import KeyOwner
from gateway.config.problems import ConfigError, Place, Problem, dotted, problems_in
from gateway.config.rules import broken_rules
from gateway.config.settings import Settings
from gateway.config.team_settings import KeySettings, TeamSettings
from gateway.config.teams import callers_from
from gateway.config.values import Name, Section
from gateway.domain.accounts import Caller
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.domain.money import format_usd

#: Stands in for the digest of a key that does not exist yet.
_NO_DIGEST = "0" * 64

#: Where a file says which secret a key is, and when it ends: records have places of their own.
NOT_TERMS = frozenset({"name", "sha256", "env", "file", "expires"})

_NOT_OF_TEAMS = frozenset({"keys"})

_DURATION_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


class _Teams(Section):
    """The part of a settings file that this is about."""

    teams: Mapping[Name, TeamSettings]


def check_team(team: str, table: Table) -> dict[str, Any]:
    """Return a team's settings as they are to be stored. Raises ConfigError with all mistakes."""
    document = {"teams": {team: _without(table, _NOT_OF_TEAMS)}}
    foreign = [Problem(name, "keys are made on their own") for name in _NOT_OF_TEAMS & table.keys()]
    return table_of(_checked(document, ("teams", team), foreign).teams[team])


def check_key(team: str, name: str, table: Table) -> dict[str, Any]:
    """Return a key's terms as they are to be stored. Raises ConfigError with all mistakes."""
    key = {**_without(table, NOT_TERMS), "name": name, "sha256": _NO_DIGEST}
    document = {"teams": {team: {"keys": [key]}}}
    foreign = [
        Problem(setting, "this cannot be chosen for a key that is made here")
        for setting in sorted(NOT_TERMS & table.keys())
    ]
    checked = _checked(document, ("teams", team, "keys", 0), foreign)
    return key_terms_of(checked.teams[team].keys[0])


def read_team(team: TeamId, table: Table) -> TeamSettings:
    """Return settings that were stored. Raises StoreUnavailable when they cannot be used here."""
    return _read({"teams": {team: dict(table)}}).teams[team]


def callers_of(account: Account, settings: TeamSettings) -> dict[str, Caller]:
    """Return who each key of an account is, by the key's name; revoked ones are among them.

    Raises StoreUnavailable when the terms of a key cannot be used here.
    """
    team = account.team
    digests = {name: record.digest.hex() for name, record in account.keys.items()}
    keys = [
        {**record.terms, "name": name, "sha256": digests[name]}
        for name, record in account.keys.items()
    ]
    read = _read({"teams": {team: {"keys": keys}}}).teams[team]
    whole = settings.model_copy(update={"keys": read.keys})
    callers = callers_from(
        Settings.model_construct(teams={team: whole}),
        {record.digest: KeyOwner(team, name) for name, record in account.keys.items()},
    )
    return {
        name: _as_of(callers[record.digest], record.expires_ms, account.version)
        for name, record in account.keys.items()
    }


def table_of(section: Section, *, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return settings as a file would have them; what is at its default is left out.

    Units ride in the names of settings, so that is how an amount or a length of time is known.
    """
    written = {}
    for name, field in type(section).model_fields.items():
        setting, value = field.alias or name, getattr(section, name)
        if setting not in leave_out and value != field.get_default(call_default_factory=True):
            written[setting] = _written(name, value)
    return written


def key_terms_of(key: KeySettings) -> dict[str, Any]:
    """Return what a key may do as a file would have it, without its name and secret."""
    return table_of(key, leave_out=NOT_TERMS)


def _as_of(caller: Caller, expires_ms: int | None, version: str) -> Caller:
    key = replace(caller.key, expires_ms=expires_ms)
    return replace(caller, key=key, account_version=version)


def _without(table: Table, names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in names}


def _checked(document: dict[str, Any], place: Place, foreign: Sequence[Problem]) -> _Teams:
    """Validate as strictly as a file; mistakes are placed from `place` on."""
    problems = [*foreign, *_placed(broken_rules(document, packaged()), place)]
    try:
        teams = _Teams.model_validate(document)
    except ValidationError as error:
        raise ConfigError([*_placed(problems_in(error, _Teams), place), *problems]) from None
    if problems:
        raise ConfigError(problems)
    return teams


def _placed(problems: Sequence[Problem], place: Place) -> list[Problem]:
    above = dotted(place)
    return [
        Problem(problem.path.removeprefix(above).removeprefix(".") or above, problem.message)
        for problem in problems
    ]


def _read(document: dict[str, Any]) -> _Teams:
    try:
        return _Teams.model_validate(document)
    except ValidationError as error:
        known = copy.deepcopy(document)
        for detail in error.errors(include_url=False):
            if detail["type"] == "extra_forbidden":
                _remove(known, detail["loc"])
    try:
        return _Teams.model_validate(known)
    except ValidationError as error:
        raise StoreUnavailable(
            "The settings of this team cannot be used by this release of the gateway."
        ) from error


def _remove(document: Any, place: tuple[str | int, ...]) -> None:
    *parents, name = place
    for step in parents:
        document = document[step]
    del document[name]


def _written(name: str, value: Any) -> Any:
    written: Any = value
    if isinstance(value, Section):
        written = table_of(value)
    elif isinstance(value, list | tuple):
        written = [_written(name, entry) for entry in value]
    elif isinstance(value, Enum):
        written = value.value
    elif isinstance(value, Fraction):
        written = str(Decimal(value.numerator) / Decimal(value.denominator))
    elif isinstance(value, Decimal | tzinfo):
        written = str(value)
    elif name.endswith("_microusd"):
        written = format_usd(value)
    elif name.endswith("_ms"):
        written = _duration(value)
    return written


def _duration(duration_ms: int) -> str:
    unit, length_ms = next(pair for pair in _DURATION_UNITS if duration_ms % pair[1] == 0)
    return f"{duration_ms // length_ms}{unit}"
