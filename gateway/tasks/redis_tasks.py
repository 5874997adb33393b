"""The journal of tasks on Redis or Valkey: one script for each verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import orjson

from gateway.domain.clock import Clock
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import (
    FACTS,
    PASSING_FAILURES,
    TRANSITIONS,
    Event,
    Render,
    Task,
    advance,
)
from gateway.ledger.holds import states_of
from gateway.ledger.months import day_of, month_of
from gateway.ledger.outbox import outbox_field, raised, settlement
from gateway.store.client import Store
from gateway.store.connect import Acknowledgement
from gateway.store.keyspace import (
    in_flight_key,
    ledger_key,
    live_key,
    outbox_key,
    prompt_key,
    rollup_key,
    spent_month_key,
    spent_total_key,
    task_key,
)
from gateway.store.scripts import load_script
from gateway.tasks import records
from gateway.tasks.admissions import (
    Keeping,
    call_keys,
    integers,
)
from gateway.tasks.interface import (
    Concluded,
    Ending,
    OwnershipLostError,
    RecordMissingError,
    ShelfNote,
)
from gateway.tasks.redis_admissions import RedisTaskAdmissions
from gateway.tasks.replica import Attendance
from gateway.tasks.unfetched import unfetched_keys


class RedisTaskStore(RedisTaskAdmissions):
    """Implements `TaskStore` for the process `owner`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        owner: str,
        keeping: Keeping,
        tells_organization: bool = False,
        acknowledgement: Acknowledgement | None = None,
        attendance: Callable[[], Attendance | None] = lambda: None,
    ) -> None:
        super().__init__(
            store,
            clock,
            owner=owner,
            keeping=keeping,
            tells_organization=tells_organization,
            attendance=attendance,
        )
        self._acknowledgement = acknowledgement
        self._advance = load_script("tasks/lua/advance.lua")
        self._conclude = load_script("tasks/lua/conclude.lua")
        self._raise = load_script("tasks/lua/raise.lua")
        self._shelve = load_script("tasks/lua/shelve.lua")

    async def begin_submit(
        self, task: Task, render: Render, attempt_id: str, urls: Sequence[str] = ()
    ) -> Render:
        """Win the right to post this render, with these links to its references."""
        with_urls = replace(render, urls=tuple(urls))
        return await self._move(task, with_urls, Event.BEGIN, attempt_id=attempt_id)

    async def record_submitted(self, task: Task, render: Render, upstream_id: str) -> Render:
        """Write down the upstream's id."""
        return await self._move(task, render, Event.SUBMIT, upstream_id=upstream_id)

    async def record_not_sent(self, task: Task, render: Render) -> Render:
        """Write down that nothing left the house, or that nothing was created."""
        return await self._move(task, render, Event.NOT_SENT)

    async def lose_track(self, task: Task, render: Render) -> Render:
        """Write down that nobody knows whether this render was ordered."""
        return await self._move(task, render, Event.LOSE_TRACK)

    async def retry(self, task: Task, render: Render) -> Render:
        """Put a render that failed at no charge back into the queue."""
        return await self._move(task, render, Event.RETRY)

    async def _move(
        self,
        task: Task,
        render: Render,
        event: Event,
        *,
        attempt_id: str = "",
        upstream_id: str = "",
    ) -> Render:
        moved = render.after(event, attempt_id=attempt_id, upstream_id=upstream_id)
        now_ms = self._clock.now_ms()
        fields = {f"{event}_ms": str(now_ms)}
        if event is Event.BEGIN:
            fields["tries"] = str(moved.tries)
            if moved.urls:
                fields["urls"] = orjson.dumps(moved.urls).decode()
        if event in (Event.SUBMIT, Event.RETRY):
            moved = replace(moved, submitted_ms=now_ms if event is Event.SUBMIT else 0)
            fields |= {"upstream_id": upstream_id, "submitted_ms": str(moved.submitted_ms)}
        order: dict[str, object] = {
            "index": render.index,
            "from": _from_states(event),
            "to": moved.state,
            "attempt": moved.attempt_id,
            "epoch": str(task.epoch),
            "owner": self._owner,
            "fact": event in FACTS,
            "fields": fields,
        }
        if event is not Event.BEGIN:
            order["expected"] = moved.attempt_id
        reply = await self._store.run(
            self._advance,
            [task_key(task.team, task.id)],
            [orjson.dumps(order)],
            # What is sent next must not be forgotten by whoever may become the primary.
            acknowledgement=self._acknowledgement if event is Event.BEGIN else None,
        )
        if reply == b"done":
            return moved
        if reply == b"missing":
            raise RecordMissingError(task.id)
        raise OwnershipLostError(task.id)

    async def raise_hold(self, task: Task, render: Render, extra_microusd: int) -> None:
        """Hold more for a render that was submitted, whatever its budgets say."""
        reply = await self._store.run(
            self._raise,
            [
                task_key(task.team, task.id),
                ledger_key(task.team),
                outbox_key(task.team),
                *(window.key for window in task.hold.windows),
            ],
            [
                render.index,
                task.id,
                extra_microusd,
                orjson.dumps(records.raise_entry(task, render.index)),
                raised(extra_microusd) if self._tells_organization else "",
            ],
        )
        if reply == b"missing":
            raise RecordMissingError(task.id)

    async def conclude(self, task: Task, render: Render, ending: Ending) -> Concluded:
        """End a render and settle or release its hold."""
        index, now_ms = render.index, self._clock.now_ms()
        order: dict[str, object] = {
            "id": task.id,
            "created_ms": task.created_ms,
            "index": index,
            "epoch": str(task.epoch),
            "owner": self._owner,
            "from": _from_states(ending.event),
            "to": advance(render.state, ending.event),
            "verb": records.verb_of(ending.charge),
            "op": records.ending_op(task, index),
            "live": live_key(task.team, ""),
            "cost": ending.charge.total_microusd,
            "fetch": bool(ending.links),
            "replay": is_final(render, ending),
            "keep_ms": task.keep_ms or self._keeping.record_ms,
            "now_ms": now_ms,
            "bucket_ms": records.bucket_of(task.created_ms),
            "owners": records.sum_owners(task),
            "tells": self._tells_organization,
            "outbox": [
                outbox_field(task.id, str(index)),
                settlement(
                    hold_microusd=task.hold.amount_microusd,
                    cost_microusd=ending.charge.total_microusd,
                    created_ms=task.created_ms,
                ),
            ],
            "rollups": records.rollups(task, ending),
            "fields": records.ending_fields(ending) | {f"{ending.event}_ms": str(now_ms)},
            "entry": records.ending_entry(task, render, ending),
        }
        if self._keeping.prompts_ms and task.order.prompt:
            keep_ms = min(self._keeping.prompts_ms, task.keep_ms or self._keeping.record_ms)
            order["prompt"] = [prompt_key(task.team, task.id), task.order.prompt, keep_ms]
        reply = await self._store.run(
            self._conclude,
            [
                task_key(task.team, task.id),
                in_flight_key(task.team),
                ledger_key(task.team),
                # Sums follow the day of the admission, as the budgets' windows do.
                rollup_key(task.team, day_of(task.created_ms)),
                spent_month_key(task.team, month_of(task.created_ms)),
                spent_total_key(task.team),
                *call_keys(task.team, task.call),
                outbox_key(task.team),
                *unfetched_keys(task.team),
                *(window.key for window in task.hold.windows),
            ],
            [orjson.dumps(order)],
        )
        match reply:
            case [b"done", int(), list(balances), bytes(watchers)]:
                return Concluded(
                    render=replace(render.after(ending.event), result=records.result_of(ending)),
                    budgets=states_of(task.hold.windows, integers(balances)),
                    watchers=tuple(watchers.decode().split()),
                )
            case [b"missing"]:
                raise RecordMissingError(task.id)
            case _:
                raise OwnershipLostError(task.id)

    async def shelve(self, team: TeamId, notes: Mapping[TaskId, ShelfNote]) -> None:
        """Note which pictures are in the asset store, and which answers have left."""
        told = [
            {
                "id": task,
                "stored": note.stored,
                "delivered": note.delivered,
                "fetched": sorted(note.fetched),
            }
            for task, note in notes.items()
        ]
        await self._store.run(
            self._shelve,
            [*unfetched_keys(team), *(task_key(team, task) for task in notes)],
            [live_key(team, ""), self._clock.now_ms(), orjson.dumps(told)],
        )


def is_final(render: Render, ending: Ending) -> bool:
    """Tell whether a retry is answered with this end; otherwise nothing came of the call."""
    if ending.failure in PASSING_FAILURES and not ending.charge.total_microusd:
        return bool(render.upstream_id)
    return True


def _from_states(event: Event) -> str:
    return ",".join(TRANSITIONS[event])
