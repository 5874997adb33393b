"""Teams and keys made at run time: every change, with who made it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway.access.bearer import SECRET_BYTES, digest_of, make_key
from gateway.access.interface import AccountMovedError, Accounts, Amendment, AuditEntry
from gateway.access.records import (
    TEAM_FIELD,
    Account,
    KeyRecord,
    KeyState,
    Table,
    dump,
    key_field,
    tell_key,
    write_key,
    write_team,
)
from gateway.access.terms import check_key, check_team, table_of
from gateway.config.team_settings import TeamSettings
from gateway.domain.clock import Clock
from gateway.domain.ids import TeamId
from gateway.domain.keys import shown, without_keys

T = TypeVar("T")

#: How often a change is tried that somebody else was faster than.
TRIES = 5


class AdminRefusedError(Exception):
    """The change cannot be made; the message says why."""


class NoSuchError(AdminRefusedError):
    """There is no team or no key of that name."""


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key and its secret, which is shown this once and kept nowhere."""

    secret: str = field(repr=False)
    told: Mapping[str, Any]


class Admin:
    """Makes and changes teams and keys. Every method raises StoreUnavailable.

    `file_teams` are those of the settings file: they take keys, and their settings stay the file's.
    """

    def __init__(
        self,
        accounts: Accounts,
        file_teams: Mapping[str, TeamSettings],
        clock: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._accounts = accounts
        self._file_teams = file_teams
        self._clock = clock
        self._random_bytes = random_bytes

    async def teams(self) -> list[str]:
        """Return the names of all teams, of the file and of the store."""
        return sorted({*self._file_teams, *await self._accounts.teams()})

    async def team(self, name: str) -> dict[str, Any]:
        """Return a team's settings as a file would have them. Raises AdminRefusedError."""
        if name in self._file_teams:
            return table_of(self._file_teams[name], leave_out=frozenset({"keys"}))
        account = await self._existing(name)
        return dict(account.table or {})

    async def set_team(self, name: str, table: Table, *, who: str) -> None:
        """Make a team, or replace its settings.

        Raises ConfigError with every mistake in them, and AdminRefusedError for a team of the file.
        """
        if name in self._file_teams:
            raise AdminRefusedError(f"The team '{name}' is in the settings file; change it there.")
        checked = check_team(name, table)
        team = TeamId(name)
        await self._accounts.enter(team)

        async def change(account: Account) -> None:
            await self._accounts.amend(
                Amendment(
                    team=team,
                    version=account.version,
                    field=TEAM_FIELD,
                    text=write_team(checked),
                    who=who,
                    what="set_team",
                    key="",
                    before="" if account.table is None else dump(account.table),
                    after=dump(checked),
                )
            )

        await self._settled(team, change)

    async def keys(self, team: str) -> dict[str, dict[str, Any]]:
        """Return what may be told of each key made at run time, by its name.

        Its `state` is active, revoked or expired.
        """
        account = await self._existing(team)
        return {name: self._told(record) for name, record in account.keys.items()}

    async def create_key(
        self, team: str, name: str, terms: Table, *, expires_ms: int | None, who: str
    ) -> MadeKey:
        """Make a key for a team.

        Raises ConfigError with every mistake in its terms, and AdminRefusedError for a name taken.
        """
        checked = check_key(team, name, terms)
        secret = make_key(TeamId(team), self._random_bytes(SECRET_BYTES))
        record = KeyRecord(
            digest=digest_of(secret),
            prefix=shown(secret),
            created_ms=self._clock.now_ms(),
            terms=checked,
            expires_ms=expires_ms,
        )

        async def change(account: Account) -> None:
            if name in account.keys or name in self.names_in_file(team):
                raise AdminRefusedError(f"The team '{team}' has a key '{name}' already.")
            await self._write(account, name, None, record, who=who, what="create_key")

        await self._changed(team, change)
        return MadeKey(secret, tell_key(record))

    async def revoke_key(self, team: str, name: str, *, who: str) -> None:
        """End a key at once, by all of its secrets. Idempotent. Raises AdminRefusedError."""

        async def change(account: Account) -> None:
            record = self._key(account, name)
            if record.state is KeyState.REVOKED:
                return
            await self._write(account, name, record, record.revoked(), who=who, what="revoke_key")

        await self._changed(team, change)

    async def rotate_key(self, team: str, name: str, *, grace_ms: int, who: str) -> MadeKey:
        """Give a key another secret; the one it had opens for `grace_ms` more.

        Raises AdminRefusedError for a key that does not exist, is revoked or has expired.
        """
        secret = make_key(TeamId(team), self._random_bytes(SECRET_BYTES))

        async def change(account: Account) -> KeyRecord:
            record = self._key(account, name)
            if record.state is KeyState.REVOKED:
                raise AdminRefusedError(f"The key '{name}' of team '{team}' is revoked.")
            now_ms = self._clock.now_ms()
            if record.expired(now_ms):
                raise AdminRefusedError(f"The key '{name}' of team '{team}' has expired.")
            rotated = record.rotated(
                digest_of(secret), shown(secret), now_ms=now_ms, grace_ms=grace_ms
            )
            await self._write(account, name, record, rotated, who=who, what="rotate_key")
            return rotated

        return MadeKey(secret, tell_key(await self._changed(team, change)))

    async def audit(self, team: str, *, count: int) -> tuple[AuditEntry, ...]:
        """Return the newest changes of a team, newest first."""
        return await self._accounts.audit(TeamId(team), count=count)

    def _told(self, record: KeyRecord) -> dict[str, Any]:
        told = tell_key(record)
        if record.state is KeyState.ACTIVE and record.expired(self._clock.now_ms()):
            told["state"] = "expired"
        return told

    def names_in_file(self, team: str) -> set[str]:
        """Return the names of a team's keys that the settings file has, none for other teams."""
        settings = self._file_teams.get(team)
        return {key.name for key in settings.keys} if settings is not None else set()

    def _key(self, account: Account, name: str) -> KeyRecord:
        record = account.keys.get(name)
        if record is not None:
            return record
        if name in self.names_in_file(account.team):
            raise AdminRefusedError(
                f"The key '{name}' of team '{account.team}' is in the settings file; change it"
                " there."
            )
        # A key is easily given where its name belongs.
        raise NoSuchError(f"The team '{account.team}' has no key '{without_keys(name)}'.")

    async def _existing(self, team: str) -> Account:
        account = await self._accounts.load(TeamId(team))
        if team not in self._file_teams and account.table is None:
            told = without_keys(team)
            raise NoSuchError(
                f"There is no team '{told}'; make it with `gateway teams set {told} --from FILE`."
            )
        return account

    async def _changed(self, team: str, change: Callable[[Account], Awaitable[T]]) -> T:
        await self._existing(team)
        return await self._settled(TeamId(team), change)

    async def _settled(self, team: TeamId, change: Callable[[Account], Awaitable[T]]) -> T:
        """Make a change from the account as it is; again when somebody else was faster."""
        for _ in range(TRIES):
            try:
                return await change(await self._accounts.load(team))
            except AccountMovedError:
                continue
        raise AdminRefusedError(f"The team '{team}' is being changed by others; try again.")

    async def _write(
        self,
        account: Account,
        name: str,
        before: KeyRecord | None,
        after: KeyRecord,
        *,
        who: str,
        what: str,
    ) -> None:
        await self._accounts.amend(
            Amendment(
                team=account.team,
                version=account.version,
                field=key_field(name),
                text=write_key(after),
                who=who,
                what=what,
                key=name,
                before="" if before is None else dump(tell_key(before)),
                after=dump(tell_key(after)),
            )
        )
