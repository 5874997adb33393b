"""Teams, their keys, and what either may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from fnmatch import fnmatchcase

from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget, Quotas

#: The account version of a team that exists only in the configuration file.
NO_VERSION = ""


@dataclass(frozen=True, slots=True)
class Team:
    """Owns budgets and keys.

    `models` are globs; the defaults stand in for `auto`; `per_call_microusd` is the most one call
    may hold; `user_budgets` are budgets that each end user of the team has. With `usage_by_user`
    the books know end users also where none has a budget. `joins_retries` says whether a retry is
    answered with the picture that its first try has paid for. `keep_ms` is how long its pictures
    and the records of its tasks are kept, None for as long as those of all teams.
    """

    id: TeamId
    models: tuple[str, ...]
    budgets: tuple[Budget, ...]
    default_size: str | None = None
    default_quality: str | None = None
    timezone: tzinfo = UTC
    quotas: Quotas = field(default_factory=Quotas)
    per_call_microusd: int | None = None
    user_budgets: tuple[Budget, ...] = ()
    joins_retries: bool = True
    usage_by_user: bool = False
    keep_ms: int | None = None

    @property
    def knows_users(self) -> bool:
        """Whether the books are to know, by a hash, for which end user a call is made."""
        return self.usage_by_user or bool(self.user_budgets)

    def may_use(self, model: str) -> bool:
        """Tell whether one of the team's globs matches this model name."""
        return _matches(model, self.models)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A bearer secret of a team, without the secret. `name` is unique in its team.

    Its limits stand beside the team's: both must allow a call. `expires_ms` is Unix milliseconds.
    """

    name: str
    models: tuple[str, ...] = ("*",)
    budgets: tuple[Budget, ...] = ()
    per_call_microusd: int | None = None
    expires_ms: int | None = None

    def expired(self, now_ms: int) -> bool:
        """Tell whether the key's time is over."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: the team and the key it used.

    `account_version` is the version of the team's account in the store that both were read at;
    admission compares it, so that a revoked key or a new limit holds everywhere at once.
    """

    team: Team
    key: ApiKey
    account_version: str = NO_VERSION

    @property
    def key_name(self) -> str:
        """The key's name, for records and metrics; never the key."""
        return self.key.name

    def may_use(self, model: str) -> bool:
        """Tell whether both the team and the key may use this model."""
        return self.team.may_use(model) and _matches(model, self.key.models)

    def call_cap_microusd(self) -> int | None:
        """Return the most one call may hold, the lower of team's and key's; None without one."""
        caps = [
            cap
            for cap in (self.team.per_call_microusd, self.key.per_call_microusd)
            if cap is not None
        ]
        return min(caps, default=None)


def _matches(model: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model, glob) for glob in globs)
