"""Every team there is, with what its keys may do: those of the file, and those made at run time.

For figures that are taken every few seconds, so an account is read again only when its version has
moved; that costs one small read for each team.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from gateway.access.interface import Accounts, TeamKeys
from gateway.access.records import Account, KeyState
from gateway.access.terms import callers_of, read_team
from gateway.config.team_settings import TeamSettings
from gateway.config.teams import keys_from, team_from
from gateway.domain.accounts import NO_VERSION
from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TeamId

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """What an account said at a version; None when it said nothing that can be used."""

    version: str
    entry: TeamKeys | None


class AllTeams:
    """Implements `TeamList`. `teams` are the file's: of these the file's settings hold."""

    def __init__(self, teams: Mapping[str, TeamSettings], accounts: Accounts) -> None:
        self._teams = teams
        self._accounts = accounts
        self._known: dict[TeamId, _Known] = {}

    async def read(self) -> tuple[TeamKeys, ...]:
        """Return every team by its name; one whose settings cannot be used here is left out."""
        found = [await self._entry(name) for name in sorted(await self.names())]
        return tuple(entry for entry in found if entry is not None)

    async def names(self) -> frozenset[TeamId]:
        """Return the name of every team, also of those whose settings cannot be used here."""
        return frozenset({*map(TeamId, self._teams), *await self._accounts.teams()})

    async def _entry(self, team: TeamId) -> TeamKeys | None:
        version = await self._accounts.version(team)
        known = self._known.get(team)
        if known is None or known.version != version:
            known = _Known(version, await self._load(team, version))
            self._known[team] = known
        return known.entry

    async def _load(self, team: TeamId, version: str) -> TeamKeys | None:
        settings = self._teams.get(team)
        if version == NO_VERSION:
            return None if settings is None else _of_file(team, settings)
        try:
            return _entry_of(await self._accounts.load(team), settings)
        except StoreUnavailable:
            # The store has just answered: this account is of a release too new for this one, and
            # must not hide all others. A store that is down fails the next read.
            log.warning("account_unusable", action="account_unusable", team=team)
            return None if settings is None else _of_file(team, settings)


def _of_file(team: TeamId, settings: TeamSettings) -> TeamKeys:
    return TeamKeys(team_from(team, settings), keys_from(settings))


def _entry_of(account: Account, in_file: TeamSettings | None) -> TeamKeys | None:
    """Return a team as its account and the file have it, without keys that were revoked."""
    settings = in_file
    if settings is None and account.table is not None:
        settings = read_team(account.team, account.table)
    if settings is None:
        return None
    callers = callers_of(account, settings)
    made = [
        callers[name].key
        for name, record in account.keys.items()
        if record.state is KeyState.ACTIVE
    ]
    return TeamKeys(team_from(account.team, settings), (*keys_from(settings), *made))
