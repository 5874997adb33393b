"""How a call becomes a task on Redis or Valkey: admitted, given up, or written again when lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import orjson
import structlog

from gateway.domain.clock import Clock
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import PROGRESS, Render, RenderState, Task, progress_of
from gateway.ledger.months import month_before, month_of
from gateway.ledger.outbox import outbox_field, raised, settlement
from gateway.store.client import Reply, Store
from gateway.store.keyspace import (
    account_key,
    active_teams_key,
    book_key,
    deleted_key,
    idempotency_key,
    in_flight_key,
    ledger_key,
    live_key,
    outbox_key,
    owners_key,
    spent_month_key,
    spent_total_key,
    task_key,
    tasks_key,
    tombstone_key,
    waits_key,
)
from gateway.store.replies import texts_of
from gateway.store.scripts import Script, load_script
from gateway.tasks import records
from gateway.tasks.admissions import (
    Asked,
    Keeping,
    anew,
    ask,
    call_fields,
    call_keys,
    call_order,
    opened_keys,
    place_of,
)
from gateway.tasks.interface import (
    Admission,
    Admitted,
    Call,
    Joined,
    OwnershipLostError,
    Restored,
    Standing,
    Standings,
)
from gateway.tasks.redis_ownership import RedisTaskOwnership
from gateway.tasks.replica import Attendance
from gateway.tasks.written_books import WrittenBooks, book_order

log = structlog.get_logger(__name__)

#: A given-up id stays given up for longer than any admission of it can be on its way.
TOMBSTONE_MS = 3_600_000


class RedisTaskAdmissions(RedisTaskOwnership):
    """The part of `TaskStore` that writes tasks.

    Where it `tells_organization`, each movement of money leaves an entry in the team's outbox.
    `attendance` says whose requests may still wait for their tasks.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        owner: str,
        keeping: Keeping,
        tells_organization: bool = False,
        attendance: Callable[[], Attendance | None] = lambda: None,
    ) -> None:
        super().__init__(store, clock, owner=owner, keeping=keeping)
        self._attendance = attendance
        self._tells_organization = tells_organization
        self._known_teams: set[TeamId] = set()
        self._books = WrittenBooks(clock)
        self._admit = load_script("tasks/lua/admit.lua")
        self._expect_retry = load_script("tasks/lua/expect_retry.lua")
        self._give_up = load_script("tasks/lua/give_up.lua")
        self._readmit = load_script("tasks/lua/readmit.lua")
        self._restore = load_script("tasks/lua/restore.lua")
        self._standings = load_script("tasks/lua/standings.lua")

    def tell_organization(self) -> None:
        """Leave entries for the organization from now on, for good: some may be owed to it."""
        self._tells_organization = True

    async def admit(self, admission: Admission) -> Admitted | Joined:
        """Attach the call to its task; else check every limit, hold the price and write a task."""
        team = admission.caller.team.id
        if team not in self._known_teams:
            # Before the first task, so that recovery never misses a team that has one.
            await self._store.command("SADD", active_teams_key(), team)
            self._known_teams.add(team)
        asked = ask(admission, now_ms=self._clock.now_ms(), owner=self._owner)
        call = admission.call
        order = asked.order() | {
            "call": call_order(
                team,
                call,
                self._keeping,
                replica=self._owner,
                patience_ms=admission.patience_ms,
                attendance=self._attendance(),
            )
        }
        fields = call_fields(team, call, replica=self._owner)
        doubts = self._store.doubts
        brings_book = self._books.is_due(team, admission.book, doubts=doubts)
        if brings_book:
            order |= {"book": book_order(admission.book, task_ms=self._keeping.listed_ms)}
        reply = await self._run_admit(asked.task, order, asked.keys, fields, call.idempotency)
        if reply == [b"late"]:
            # A store that was slow is not waited for as long: its clock is ahead of ours.
            log.warning("clock_behind_store", action="clock_behind_store", team=team)
        answer = asked.understand(reply)
        if brings_book and isinstance(answer, Admitted):
            self._books.note(team, admission.book, doubts=doubts)
        return answer

    async def standings(self, team: TeamId, tasks: Sequence[TaskId]) -> Standings:
        """Return how far tasks of a team have come by their records, and which server says so."""
        reply = await self._store.run(
            self._standings, [tasks_key(team), *(task_key(team, task) for task in tasks)], []
        )
        server, *told = texts_of(reply)
        return Standings(server, tuple(map(_standing, told)))

    async def restore(self, task: Task, call: Call | None) -> Restored:
        """Bring a record up to what its owner remembers; write it anew if it is lost."""
        order = {
            "id": task.id,
            "created_ms": task.created_ms,
            "epoch": task.epoch,
            "owner": self._owner,
            "live": live_key(task.team, ""),
            "progress": {state.value: step for state, step in PROGRESS.items()},
            "renders": [self._remembered(task, render) for render in task.renders],
        }
        behind = False
        while True:
            reply = await self._store.run(
                self._restore,
                [
                    task_key(task.team, task.id),
                    live_key(task.team, self._owner),
                    owners_key(task.team),
                    ledger_key(task.team),
                    outbox_key(task.team),
                    *(window.key for window in task.hold.windows),
                ],
                [orjson.dumps(order)],
            )
            match reply:
                case [b"missing"]:
                    if await self._store.command("EXISTS", deleted_key(task.team, task.id)):
                        raise OwnershipLostError(task.id)
                    await self._write_anew(task, call)
                    behind = True
                case [b"done", int(changed), *unsettled]:
                    indexes = tuple(index for index in unsettled if isinstance(index, int))
                    return Restored(behind or bool(changed), indexes)
                case _:
                    raise OwnershipLostError(task.id)

    def _remembered(self, task: Task, render: Render) -> dict[str, object]:
        before = render if render.result is None else records.ended_by(render)[0]
        fields = records.render_fields(before)
        told: dict[str, object] = {
            "index": render.index,
            "progress": render.progress,
            "fields": [word for pair in fields.items() for word in pair],
            "raised": render.raised_microusd,
            "entry": records.raise_entry(task, render.index),
        }
        if not self._tells_organization:
            return told
        field = outbox_field(task.id, str(render.index))
        if render.result is not None:
            told["outbox"] = [
                field,
                settlement(
                    hold_microusd=task.hold.amount_microusd,
                    cost_microusd=render.result.cost_microusd,
                    created_ms=task.created_ms,
                ),
            ]
        elif render.raised_microusd:
            told["outbox"] = [field, raised(render.raised_microusd)]
        return told

    async def _write_anew(self, task: Task, call: Call | None) -> None:
        """Write a record as it was before any of its money was settled, with every hold."""
        renders = (
            render if render.result is None else records.ended_by(render)[0]
            for render in task.renders
        )
        lost = replace(task, renders=tuple(renders))
        await self._store.command("SADD", active_teams_key(), task.team)
        order = anew(lost) | {"enter": call is not None}
        if (book := self._books.find(task.team, task.book)) is not None:
            order["book"] = book_order(book, task_ms=self._keeping.listed_ms)
        fields: Mapping[str, str] = {}
        if call is not None:
            fields = call_fields(task.team, call, replica=self._owner)
            order["call"] = call_order(task.team, call, self._keeping, replica=self._owner)
        keys = [window.key for window in task.hold.windows]
        idempotency = "" if call is None else call.idempotency
        await self._run_admit(lost, order, keys, fields, idempotency, script=self._readmit)

    async def _run_admit(
        self,
        task: Task,
        order: dict[str, object],
        keys: Sequence[str],
        call: Mapping[str, str],
        idempotency: str,
        *,
        script: Script | None = None,
    ) -> Reply:
        now_ms = self._clock.now_ms()
        month = month_of(now_ms)
        unfinished = [render.index for render in task.renders if render.result is None]
        opened = opened_keys(task)
        full = order | {
            "id": task.id,
            "owner": self._owner,
            "amount": task.hold.amount_microusd,
            "renders": len(unfinished),
            "subject": task.subject,
            "opened": opened,
            "created_ms": task.created_ms,
            "list_from_ms": now_ms - self._keeping.listed_of(task),
            "fields": records.task_fields(self._written(task), owner=self._owner, call=call),
            "entries": [records.hold_entry(task, index) for index in unfinished],
        }
        return await self._store.run(
            script or self._admit,
            [
                task_key(task.team, task.id),
                live_key(task.team, self._owner),
                tombstone_key(task.team, task.id),
                account_key(task.team),
                in_flight_key(task.team),
                ledger_key(task.team),
                spent_month_key(task.team, month_before(month)),
                spent_month_key(task.team, month),
                spent_total_key(task.team),
                owners_key(task.team),
                tasks_key(task.team),
                *call_keys(task.team, task.call),
                idempotency_key(task.team, idempotency),
                waits_key(task.team, task.call),
                book_key(task.team, task.book),
                *keys,
                *opened.values(),
            ],
            [orjson.dumps(full)],
        )

    def _written(self, task: Task) -> Task:
        """Return a task as it may be written down."""
        if self._keeping.prompts_ms is not None:
            return task
        return replace(task, order=task.order.without_prompt())

    async def give_up(self, admission: Admission) -> bool:
        """Make sure that an admission nobody heard of holds nothing; True if it has begun."""
        asked: Asked = ask(admission, now_ms=self._clock.now_ms(), owner=self._owner)
        team, task = asked.task.team, asked.task
        order = {
            "id": task.id,
            "created_ms": task.created_ms,
            "tombstone_ms": TOMBSTONE_MS,
            "call": call_order(team, admission.call, self._keeping, replica=self._owner),
            "entries": [records.release_entry(task, render.index) for render in task.renders],
        }
        reply = await self._store.run(
            self._give_up,
            [
                task_key(team, task.id),
                live_key(team, self._owner),
                tombstone_key(team, task.id),
                in_flight_key(team),
                ledger_key(team),
                tasks_key(team),
                *call_keys(team, task.call),
                idempotency_key(team, admission.call.idempotency),
                *(window.key for choice in asked.choices for window in choice),
            ],
            [orjson.dumps(order)],
        )
        return reply == b"begun"

    async def expect_retry(self, team: TeamId, call: Call) -> None:
        """Note that a call was sent away before anybody looked whether it is a retry."""
        keys = call_keys(team, place_of(call))
        await self._store.run(self._expect_retry, keys[2:], [call.count, call.waiter])


def _standing(told: str) -> Standing | None:
    """Read a line of standings.lua; None for a record that there is not."""
    if not told:
        return None
    epoch, owner, *renders = told.split(" ")
    return Standing(
        epoch=int(epoch),
        owner="" if owner == "-" else owner,
        renders=tuple(_render_standing(render) for render in renders),
    )


def _render_standing(told: str) -> tuple[int, bool]:
    state, tries, settled, was_raised = told.split(",")
    progress = progress_of(RenderState(state), int(tries), settled=settled == "1")
    return progress, was_raised == "1"
