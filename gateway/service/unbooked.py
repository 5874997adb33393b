"""What upstreams made and no book of ours knows: after older books were restored.

Accounts are shared by teams and with others, so what is found is shown to an operator and booked
for nobody (design rule 5).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import RenderState, Task
from gateway.ledger.entries import RawEntry
from gateway.providers.interface import Listed, NoList, Provider

#: Clocks of two machines differ, and an id is journaled a moment after it was given.
_SLACK_S = 120

#: Tasks that are read at once.
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Unbooked:
    """What one account made that is in nobody's books; `reason` says why that is unknown."""

    provider: str
    tasks: Sequence[Listed] = ()
    reason: str = ""


class Journal(Protocol):
    """What is asked of the tasks of teams."""

    async def listed(self, team: TeamId, *, after: str, limit: int) -> Sequence[Task]:
        """Return a team's tasks from the newest on."""
        ...

    async def cancel(self, team: TeamId, task: TaskId) -> str | None:
        """Mark a task as cancelled."""
        ...


class Entries(Protocol):
    """What is asked of the books."""

    def entries(self, team: TeamId, *, after: str = "", upto: str = "+") -> AsyncIterator[RawEntry]:
        """Return the entries of a team."""
        ...


async def withdraw_waiting(journal: Journal, teams: Sequence[TeamId]) -> int:
    """Cancel every task with a picture that waits for its submission; return how many.

    Books that were restored may say `queued` of what was submitted after they were copied: posted
    again it would be charged twice. Raises StoreUnavailable.
    """
    withdrawn = 0
    for team in teams:
        async for task in _tasks(journal, team):
            if any(render.state is RenderState.QUEUED for render in task.renders):
                await journal.cancel(team, task.id)
                withdrawn += 1
    return withdrawn


async def known_ids(journal: Journal, books: Entries, teams: Sequence[TeamId]) -> frozenset[str]:
    """Return the upstreams' ids of all renders in journal and ledger. Raises StoreUnavailable."""
    known: set[str] = set()
    for team in teams:
        async for task in _tasks(journal, team):
            known |= {render.upstream_id for render in task.renders}
        async for entry in books.entries(team):
            known.add(entry.fields.get("upstream", ""))
    return frozenset(known - {""})


async def unbooked(
    providers: Mapping[str, Provider], known: Collection[str], *, since_s: int
) -> list[Unbooked]:
    """Return what each provider's account made since then (Unix s) and nobody here knows."""
    found = []
    for name, provider in providers.items():
        listed = await provider.list_since(since_s - _SLACK_S)
        if isinstance(listed, NoList):
            found.append(Unbooked(name, reason=listed.reason))
            continue
        found.append(
            Unbooked(name, tuple(task for task in listed if task.upstream_id not in known))
        )
    return found


async def _tasks(journal: Journal, team: TeamId) -> AsyncIterator[Task]:
    after = ""
    while page := await journal.listed(team, after=after, limit=_PAGE):
        for task in page:
            yield task
        after = page[-1].id
