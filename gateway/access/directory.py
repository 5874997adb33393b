"""Who holds a key: those of the settings file, and those that were made at run time.

A key made at run time names its team, so one account is read to check it. Neither wrong keys nor
invented teams make many reads: accounts are read at most every half second, only of teams that
exist, and a miss may look again at once only a few times in that span (`_SecondLooks`), so that a
new key works everywhere at once while nobody guesses.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.access.bearer import digest_of, team_in
from gateway.access.file_keys import FileKeys
from gateway.access.interface import Accounts
from gateway.access.recent import Recent
from gateway.access.records import Account, KeyRecord, KeyState
from gateway.access.terms import callers_of, read_team
from gateway.config.team_settings import TeamSettings
from gateway.domain.accounts import NO_VERSION, Caller
from gateway.domain.clock import Clock
from gateway.domain.ids import TeamId

#: How old may be what is known of an account.
MAX_AGE_S = 0.5

#: So many misses in `MAX_AGE_S` are looked up again at once, over all teams.
SECOND_LOOKS = 16

#: The index of teams is one value.
_INDEX = "index"


@dataclass(frozen=True, slots=True)
class _Secret:
    """One text that a key may have; `until_ms` ends a former one. Nobody holds a revoked one."""

    digest: bytes = field(repr=False)
    holder: Caller | None
    until_ms: int | None = None

    def opens_for(self, now_ms: int) -> Caller | None:
        """Return who may call with it now."""
        if self.holder is None or self.holder.key.expired(now_ms):
            return None
        return None if self.until_ms is not None and now_ms >= self.until_ms else self.holder


@dataclass(frozen=True, slots=True)
class _Roster:
    """All secrets of the keys that a team has in the store, at one version of its account."""

    version: str
    secrets: tuple[_Secret, ...]

    def find(self, presented: bytes) -> _Secret | None:
        """Return the secret of this digest; compares with all of them, each in constant time."""
        found = None
        for secret in self.secrets:
            if hmac.compare_digest(secret.digest, presented):
                found = secret
        return found


class AccountKeys:
    """Implements `KeyDirectory` over the file's keys and the accounts in the store.

    `teams` are the file's: for these the file's settings hold, whatever the store says.
    """

    def __init__(
        self, files: FileKeys, teams: Mapping[str, TeamSettings], accounts: Accounts, clock: Clock
    ) -> None:
        self._files = files
        self._teams = teams
        self._accounts = accounts
        self._clock = clock
        # One roster for every team that exists, never for one that was only asked for.
        self._rosters: Recent[TeamId, _Roster] = Recent(self._read, clock, max_age_s=MAX_AGE_S)
        self._index: Recent[str, frozenset[TeamId]] = Recent(
            self._read_index, clock, max_age_s=MAX_AGE_S
        )
        self._second_looks = _SecondLooks(clock)

    async def find(self, key: str) -> Caller | None:
        """Return who holds this key, or None.

        A key of the file never waits for the store: all it takes from there is the version that was
        seen last, which admission compares.
        """
        digest = digest_of(key)
        caller = self._files.holder(digest)
        if caller is not None:
            roster = self._rosters.last(caller.team.id)
            return self._of_file(caller, NO_VERSION if roster is None else roster.version)
        team = await self._existing(team_in(key))
        if team is None:
            return None
        secret = (await self._rosters.recent(team)).find(digest)
        if secret is None and self._second_looks.take():
            secret = (await self._rosters.fresh(team)).find(digest)
        return None if secret is None else secret.opens_for(self._clock.now_ms())

    async def refresh(self, key: str) -> Caller | None:
        """Return who holds this key by a read of the account that begins now, or None."""
        digest = digest_of(key)
        caller = self._files.holder(digest)
        if caller is not None:
            return self._of_file(caller, (await self._rosters.fresh(caller.team.id)).version)
        team = await self._existing(team_in(key))
        if team is None:
            return None
        secret = (await self._rosters.fresh(team)).find(digest)
        return None if secret is None else secret.opens_for(self._clock.now_ms())

    def _of_file(self, caller: Caller, version: str) -> Caller | None:
        expired = caller.key.expired(self._clock.now_ms())
        return None if expired else replace(caller, account_version=version)

    async def _existing(self, team: TeamId | None) -> TeamId | None:
        """Return the team if there is one of that name, in the file or in the store."""
        if team is None or team in self._teams:
            return team
        if team in await self._index.recent(_INDEX):
            return team
        if self._second_looks.take() and team in await self._index.fresh(_INDEX):
            return team
        return None

    async def _read(self, team: TeamId, last: _Roster | None) -> _Roster:
        if last is not None and last.version == await self._accounts.version(team):
            return last
        account = await self._accounts.load(team)
        settings = self._teams.get(team)
        if settings is None and account.table is not None:
            settings = read_team(team, account.table)
        return _Roster(account.version, () if settings is None else _secrets(account, settings))

    async def _read_index(self, _: str, __: frozenset[TeamId] | None) -> frozenset[TeamId]:
        return await self._accounts.teams()


class _SecondLooks:
    """Counts out `SECOND_LOOKS` for every span of `MAX_AGE_S`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s = clock.monotonic_s()
        self._left = SECOND_LOOKS

    def take(self) -> bool:
        """Take one if there is one left."""
        now_s = self._clock.monotonic_s()
        if now_s - self._since_s >= MAX_AGE_S:
            self._since_s, self._left = now_s, SECOND_LOOKS
        self._left -= 1
        return self._left >= 0


def _secrets(account: Account, settings: TeamSettings) -> tuple[_Secret, ...]:
    callers = callers_of(account, settings)
    return tuple(
        secret
        for name, record in account.keys.items()
        for secret in _secrets_of(record, callers[name])
    )


def _secrets_of(record: KeyRecord, caller: Caller) -> list[_Secret]:
    holder = caller if record.state is KeyState.ACTIVE else None
    former = [_Secret(old.digest, holder, old.retires_ms) for old in record.former]
    return [_Secret(record.digest, holder), *former]
