"""Teams and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from gateway.domain.ids import TeamId
from gateway.domain.limits import Budget


@dataclass(frozen=True, slots=True)
class Team:
    """Owns budgets and keys. `models` are globs; the defaults stand in for `auto`."""

    id: TeamId
    models: tuple[str, ...]
    budgets: tuple[Budget, ...]
    default_size: str | None = None
    default_quality: str | None = None

    def may_use(self, model: str) -> bool:
        """Tell whether one of the team's globs matches this model name."""
        return any(fnmatchcase(model, glob) for glob in self.models)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: the team, and the name of the key it used."""

    team: Team
    key_name: str
