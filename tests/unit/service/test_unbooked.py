from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import RenderState, Task
from gateway.ledger.entries import RawEntry
from gateway.providers.interface import Listed, ListOutcome, NoList
from gateway.service.unbooked import Unbooked, known_ids, unbooked, withdraw_waiting
from tests.support.factories import a_render, a_task

TEAM = TeamId("design")


def task(name: str, *states: RenderState, upstream_id: str = "") -> Task:
    """Return a task with renders in these states."""
    renders = [
        replace(a_render(state=state), index=index, upstream_id=upstream_id)
        for index, state in enumerate(states)
    ]
    return replace(a_task(*renders), id=TaskId(name))


@dataclass
class Tasks:
    """A journal of one team, a page at a time."""

    tasks: list[Task]
    cancelled: list[str] = field(default_factory=list)

    async def listed(self, team: TeamId, *, after: str, limit: int) -> Sequence[Task]:
        """Return two at a time."""
        names = [one.id for one in self.tasks]
        first = names.index(TaskId(after)) + 1 if after else 0
        return self.tasks[first : first + min(limit, 2)]

    async def cancel(self, team: TeamId, task: TaskId) -> str | None:
        """Note it."""
        self.cancelled.append(task)
        return None


class Books:
    """Entries of one team."""

    async def entries(
        self, team: TeamId, *, after: str = "", upto: str = "+"
    ) -> AsyncIterator[RawEntry]:
        """Yield two."""
        yield RawEntry("1-0", {"verb": "hold"})
        yield RawEntry("2-0", {"verb": "settle", "upstream": "booked"})


@dataclass
class Account:
    """An upstream's list."""

    answer: ListOutcome
    asked_s: int = 0

    async def list_since(self, since_s: int) -> ListOutcome:
        """Answer it."""
        self.asked_s = since_s
        return self.answer


async def test_only_what_waits_is_withdrawn() -> None:
    """A task with a picture that was not submitted, according to the books; over all pages."""
    journal = Tasks(
        [
            task("done", RenderState.COMPLETED),
            task("half", RenderState.SUBMITTED, RenderState.QUEUED),
            task("unknown", RenderState.SUBMITTING),
            task("waiting", RenderState.QUEUED),
        ]
    )

    assert 2 == await withdraw_waiting(journal, [TEAM])
    assert ["half", "waiting"] == journal.cancelled


async def test_ids_are_known_from_the_journal_and_from_the_ledger() -> None:
    """Records of tasks expire; entries stay."""
    journal = Tasks([task("one", RenderState.SUBMITTED, upstream_id="running")])

    assert {"running", "booked"} == await known_ids(journal, Books(), [TEAM])


async def test_what_is_in_nobodys_books_is_told() -> None:
    """By account; an account that cannot be listed says why, and hides no other."""
    rows = [Listed(name, 100, "gpt-image-2", "completed", None) for name in ("known", "new")]
    full, down = Account(tuple(rows)), Account(NoList("down"))
    found = await unbooked({"a": full, "b": down}, {"known"}, since_s=1_000)  # type: ignore[dict-item] # all that is asked of them

    assert [Unbooked("a", (rows[1],)), Unbooked("b", reason="down")] == found
    assert full.asked_s < 1_000
