"""The journal of tasks on Redis or Valkey: one script for each verb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson

from gateway.domain.clock import Clock
from gateway.domain.errors import (
    BudgetExceeded,
    BudgetState,
    DailyQuotaExceeded,
    RateLimited,
    StoreUnavailable,
)
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import FACTS, TRANSITIONS, Event, HeldWindow, Hold, Render, Task, advance
from gateway.ledger.holds import budgets_of, order_of, state_of, states_of, window_order
from gateway.ledger.quotas import Rate, day_quota_of, rates_of
from gateway.ledger.quotas import states_of as rate_states_of
from gateway.store.client import Reply, Store
from gateway.store.keyspace import (
    account_key,
    in_flight_key,
    ledger_key,
    live_key,
    rollup_key,
    spent_month_key,
    spent_total_key,
    task_key,
    tombstone_key,
)
from gateway.store.scripts import load_script
from gateway.tasks import records
from gateway.tasks.interface import (
    AccountChangedError,
    Admission,
    Admitted,
    Ending,
    OwnershipLostError,
    RecordMissingError,
)

#: An admission that reaches the store later than this after it was written is refused there.
#: It bounds how long a lost request can still take money, and tolerates clocks this far apart.
ADMIT_WITHIN_MS = 10_000

#: A given-up id stays given up for longer than any admission of it can be on its way.
TOMBSTONE_MS = 3_600_000

#: What a caller that finds too many images in progress is told to wait.
IN_FLIGHT_RETRY_MS = 1_000


class RedisTaskStore:
    """Implements `TaskStore` for the process `owner`; records stay `keep_ms` after the end."""

    def __init__(self, store: Store, clock: Clock, *, owner: str, keep_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._keep_ms = keep_ms
        self._admit = load_script("tasks/lua/admit.lua")
        self._advance = load_script("tasks/lua/advance.lua")
        self._conclude = load_script("tasks/lua/conclude.lua")
        self._give_up = load_script("tasks/lua/give_up.lua")
        self._shelve = load_script("tasks/lua/shelve.lua")

    async def admit(self, admission: Admission) -> Admitted:
        """Check every limit, hold the price and write the task, or none of it."""
        now_ms = self._clock.now_ms()
        team = admission.caller.team
        budgets = budgets_of(admission.caller, admission.user)
        choices = [budget.candidates(now_ms) for budget in budgets]
        rates = rates_of(team, admission.images)
        day = day_quota_of(team, now_ms)
        task = self._task(admission, now_ms)
        order: dict[str, object] = {
            "account_version": admission.caller.account_version,
            "anew": False,
            "admit_by_ms": now_ms + ADMIT_WITHIN_MS,
            "images": admission.images,
            "budgets": order_of(budgets, choices),
            "rates": [
                {"key": rate.key, "limit": rate.limit, "units": rate.units} for rate in rates
            ],
        }
        if team.quotas.in_flight_images is not None:
            order["in_flight"] = team.quotas.in_flight_images
        if day is not None:
            order["day"] = day.order()
        by_key = {window.key: window for choice in choices for window in choice}
        keys = [
            *by_key,
            *(rate.key for rate in rates),
            *(key for key, _ in (day.windows if day is not None else ())),
        ]
        answer = await self._run_admit(task, order, keys, now_ms)
        if answer[0] == b"admitted":
            return _admitted(task, answer, by_key, rates)
        if answer[0] == b"day_used" and day is not None:
            _, used, resets_at_ms = answer
            raise DailyQuotaExceeded(
                limit=day.limit, used=_integer(used), resets_at_ms=_integer(resets_at_ms)
            )
        raise _refusal(admission, answer, by_key, rates)

    async def restore(self, task: Task) -> None:
        """Write a task and its hold anew from memory, also over budget."""
        order: dict[str, object] = {
            "account_version": "",
            "anew": True,
            "admit_by_ms": 0,
            "images": 1,
            "budgets": [
                {
                    "scope": window.scope,
                    "owner": window.owner,
                    "limit": window.limit_microusd,
                    "windows": [window_order(window)],
                }
                for window in task.hold.windows
            ],
            "rates": [],
        }
        keys = [window.key for window in task.hold.windows]
        await self._run_admit(task, order, keys, self._clock.now_ms())

    async def _run_admit(
        self, task: Task, order: dict[str, object], keys: Sequence[str], now_ms: int
    ) -> list[Reply]:
        month = records.month_of(now_ms)
        full = order | {
            "id": task.id,
            "amount": task.hold.amount_microusd,
            "created_ms": task.created_ms,
            "fields": records.task_fields(task, owner=self._owner),
            "entry": records.hold_entry(task),
        }
        reply = await self._store.run(
            self._admit,
            [
                task_key(task.team, task.id),
                live_key(task.team),
                tombstone_key(task.team, task.id),
                account_key(task.team),
                in_flight_key(task.team),
                ledger_key(task.team),
                spent_month_key(task.team, records.month_before(month)),
                spent_month_key(task.team, month),
                spent_total_key(task.team),
                *keys,
            ],
            [orjson.dumps(full)],
        )
        return _answer(reply)

    async def give_up(self, admission: Admission) -> None:
        """Make sure that an admission nobody heard of holds nothing."""
        now_ms = self._clock.now_ms()
        team = admission.caller.team.id
        windows = [
            window.key
            for budget in budgets_of(admission.caller, admission.user)
            for window in budget.candidates(now_ms)
        ]
        await self._store.run(
            self._give_up,
            [
                task_key(team, admission.id),
                live_key(team),
                tombstone_key(team, admission.id),
                in_flight_key(team),
                ledger_key(team),
                *windows,
            ],
            [
                admission.id,
                TOMBSTONE_MS,
                orjson.dumps(records.release_entry(self._task(admission, now_ms))),
            ],
        )

    async def begin_submit(self, task: Task, attempt_id: str) -> Task:
        """Win the right to post this render."""
        return await self._move(task, Event.BEGIN, attempt_id=attempt_id)

    async def record_submitted(self, task: Task, upstream_id: str) -> Task:
        """Write down the upstream's id."""
        return await self._move(task, Event.SUBMIT, upstream_id=upstream_id)

    async def record_not_sent(self, task: Task) -> Task:
        """Write down that nothing left the house."""
        return await self._move(task, Event.NOT_SENT)

    async def _move(
        self, task: Task, event: Event, *, attempt_id: str = "", upstream_id: str = ""
    ) -> Task:
        render = task.render.after(event, attempt_id=attempt_id, upstream_id=upstream_id)
        fields = [f"{event}_ms", str(self._clock.now_ms())]
        if upstream_id:
            fields += ["upstream_id", upstream_id]
        reply = await self._store.run(
            self._advance,
            [task_key(task.team, task.id)],
            [
                _from_states(event),
                render.state,
                render.attempt_id,
                "" if event in FACTS else task.epoch,
                "" if event is Event.BEGIN else render.attempt_id,
                orjson.dumps(fields),
            ],
        )
        if reply == b"done":
            return replace(task, render=render)
        if reply == b"missing":
            raise RecordMissingError(task.id)
        raise OwnershipLostError(task.id)

    async def conclude(self, task: Task, ending: Ending) -> tuple[BudgetState, ...]:
        """End the task and settle or release its hold; return its budgets afterwards."""
        order = {
            "id": task.id,
            "epoch": str(task.epoch),
            "from": _from_states(ending.event),
            "to": advance(task.render.state, ending.event),
            "verb": records.verb_of(ending.charge),
            "cost": ending.charge.total_microusd,
            "still_live": bool(ending.links),
            "keep_ms": self._keep_ms,
            "bucket_ms": records.bucket_of(task.created_ms),
            "owners": records.sum_owners(task),
            "rollups": records.rollups(task, ending),
            "fields": records.ending_fields(ending, self._clock.now_ms()),
            "entry": records.ending_entry(task, ending),
        }
        reply = await self._store.run(
            self._conclude,
            [
                task_key(task.team, task.id),
                live_key(task.team),
                in_flight_key(task.team),
                ledger_key(task.team),
                # Sums follow the day of the admission, as the budgets' windows do.
                rollup_key(task.team, records.day_of(task.created_ms)),
                spent_month_key(task.team, records.month_of(task.created_ms)),
                spent_total_key(task.team),
                *(window.key for window in task.hold.windows),
            ],
            [orjson.dumps(order)],
        )
        answer = _answer(reply)
        if answer[0] == b"done":
            return states_of(task.hold.windows, _integers(answer[2]))
        if answer[0] == b"missing":
            raise RecordMissingError(task.id)
        raise OwnershipLostError(task.id)

    async def shelve(self, team: TeamId, tasks: Sequence[TaskId]) -> None:
        """Note that the pictures of these tasks are in the asset store."""
        keys = [live_key(team), *(task_key(team, task) for task in tasks)]
        await self._store.run(self._shelve, keys, list(tasks))

    def _task(self, admission: Admission, now_ms: int) -> Task:
        """Return the task as it will be, but for the windows its hold is taken from."""
        return Task(
            id=admission.id,
            team=admission.caller.team.id,
            key_name=admission.caller.key_name,
            user=admission.user,
            model=admission.model,
            size=admission.size,
            quality=admission.quality,
            created_ms=now_ms,
            owner=self._owner,
            epoch=1,
            hold=Hold(amount_microusd=admission.hold_microusd, windows=()),
            render=Render(order=admission.order),
        )


def _admitted(
    task: Task, answer: list[Reply], by_key: dict[str, HeldWindow], rates: Sequence[Rate]
) -> Admitted:
    windows = tuple(by_key[_text(key)] for key in _answer(answer[1]))
    return Admitted(
        task=replace(task, hold=replace(task.hold, windows=windows)),
        budgets=states_of(windows, _integers(answer[2])),
        rates=rate_states_of(rates, _integers(answer[3])),
    )


def _refusal(
    admission: Admission,
    answer: list[Reply],
    by_key: dict[str, HeldWindow],
    rates: Sequence[Rate],
) -> Exception:
    """Return the error that a refusal of `admit.lua` stands for."""
    match answer:
        case [b"over_budget", _, bytes(key), int(spent), int(held), int(limit)]:
            window = replace(by_key[key.decode()], limit_microusd=limit)
            budget = state_of(window, spent, held)
            return BudgetExceeded(budget, price_microusd=admission.hold_microusd)
        case [b"too_fast", int(index), int(wait_ms)]:
            rate = rates[index - 1]
            return RateLimited(resource=rate.resource, limit=rate.limit, retry_after_ms=wait_ms)
        case [b"in_flight", int()]:
            return RateLimited(
                resource="in-flight",
                limit=admission.caller.team.quotas.in_flight_images or 0,
                retry_after_ms=IN_FLIGHT_RETRY_MS,
            )
        case [b"stale"]:
            return AccountChangedError(admission.caller.team.id)
        case _:
            # Late, given up, or the clocks are a whole window apart: nothing was written.
            return StoreUnavailable()


def _from_states(event: Event) -> str:
    return ",".join(TRANSITIONS[event])


def _answer(reply: Reply) -> list[Reply]:
    if not isinstance(reply, list):
        raise TypeError("the script answers a list")
    return reply


def _text(reply: Reply) -> str:
    if not isinstance(reply, bytes):
        raise TypeError("the script answers text here")
    return reply.decode()


def _integer(reply: Reply) -> int:
    if not isinstance(reply, int):
        raise TypeError("the script answers an integer here")
    return reply


def _integers(reply: Reply) -> list[int]:
    return [_integer(value) for value in _answer(reply)]
