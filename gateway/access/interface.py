"""Who is calling, and where accounts are kept and changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.access.records import Account
from gateway.domain.accounts import ApiKey, Caller, Team
from gateway.domain.ids import TeamId


class KeyDirectory(Protocol):
    """Knows which team a bearer key belongs to, and what both may do."""

    async def find(self, key: str) -> Caller | None:
        """Return who holds this key, or None when nobody does, or no more.

        What the store knows may be 0.5 s old; admission finds out when it is (`account_version`).
        Raises StoreUnavailable when only the store could tell.
        """
        ...

    async def refresh(self, key: str) -> Caller | None:
        """Return the same from a read of the store that began after this call.

        For a caller whose `account_version` was out of date. Raises StoreUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class TeamKeys:
    """A team and those of its keys that are not revoked."""

    team: Team
    keys: tuple[ApiKey, ...]


class TeamList(Protocol):
    """Knows every team there is."""

    async def read(self) -> tuple[TeamKeys, ...]:
        """Return every team by its name, as it is now. Raises StoreUnavailable."""
        ...


class AccountMovedError(Exception):
    """The account is no longer what a change was made from; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Amendment:
    """One change of one field of an account, and what its audit entry says.

    `version` is the one it was made from. `what` names the verb, `key` the key it is about, empty
    for the team. `before` and `after` are JSON without secrets and digests, empty for nothing.
    """

    team: TeamId
    version: str
    field: str
    text: str
    who: str
    what: str
    key: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of a team's audit, newest facts last; `at_ms` is the store's time (Unix ms)."""

    id: str
    at_ms: int
    who: str
    what: str
    key: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


class Accounts(Protocol):
    """Keeps the accounts of teams. Every method raises StoreUnavailable."""

    async def version(self, team: TeamId) -> str:
        """Return the version of a team's account, `NO_VERSION` when it has none."""
        ...

    async def load(self, team: TeamId) -> Account:
        """Return a team's account, an empty one when it has none."""
        ...

    async def teams(self) -> frozenset[TeamId]:
        """Return the teams made at run time; one whose making broke off may be among them."""
        ...

    async def enter(self, team: TeamId) -> None:
        """Note that a team is going to be made at run time. Idempotent."""
        ...

    async def amend(self, amendment: Amendment) -> str:
        """Make a change and write it into the audit, both or neither; return the new version.

        Raises AccountMovedError when somebody else was faster. After StoreUnavailable it is unknown
        whether it was made; it is never made twice.
        """
        ...

    async def audit(self, team: TeamId, *, count: int) -> tuple[AuditEntry, ...]:
        """Return the newest entries of a team's audit, newest first."""
        ...
