"""What `admit.lua` is asked, and what its answers mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from gateway.domain.errors import (
    BudgetExceeded,
    DailyQuotaExceeded,
    GatewayError,
    IdempotencyConflict,
    PictureExpired,
    RateLimited,
    StoreUnavailable,
)
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.images import References
from gateway.domain.limits import Scope
from gateway.domain.task import HeldWindow, Hold, Render, Task
from gateway.ledger.holds import ScopedBudget, budgets_of, state_of, states_of
from gateway.ledger.quotas import DayQuota, Rate, day_quota_of, rates_of
from gateway.ledger.quotas import states_of as rate_states_of
from gateway.store.client import Reply
from gateway.store.keyspace import (
    calls_key,
    idempotency_key,
    opened_key,
    orphans_key,
    refused_key,
    task_key,
)
from gateway.tasks import records
from gateway.tasks.interface import (
    AccountChangedError,
    Admission,
    Admitted,
    Call,
    Joined,
    NotJoinedError,
)
from gateway.tasks.replica import Attendance

#: An admission that reaches the store later than this after it was written is refused there.
#: It bounds how long a lost request can still take money, and tolerates clocks this far apart.
ADMIT_WITHIN_MS = 10_000

#: What a caller that finds too many images in progress is told to wait.
IN_FLIGHT_RETRY_MS = 1_000


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long things are kept, in ms.

    Records after their end; answers that nobody fetched, for a retry; tasks on the list and in the
    places where retries look for them.
    """

    record_ms: int
    answer_ms: int
    listed_ms: int
    #: Prompts, after their task's end; None writes them down nowhere.
    prompts_ms: int | None = 0

    def listed_of(self, task: Task) -> int:
        """Return how long the list of the task's team goes back at least."""
        return self.listed_ms + max((task.keep_ms or 0) - self.record_ms, 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """One admission as it is asked: everything that is needed to understand the answer."""

    admission: Admission
    task: Task
    budgets: tuple[ScopedBudget, ...]
    choices: tuple[tuple[HeldWindow, ...], ...]
    rates: tuple[Rate, ...]
    day: DayQuota | None

    @property
    def keys(self) -> list[str]:
        """The windows, rates and day counters that the script may touch."""
        windows = [window.key for choice in self.choices for window in choice]
        days = [] if self.day is None else [key for key, _ in self.day.windows]
        return [*windows, *(rate.key for rate in self.rates), *days]

    def order(self) -> dict[str, object]:
        """Return the limits as the script reads them."""
        limit = self.admission.caller.team.quotas.in_flight_images
        order: dict[str, object] = {
            "account_version": self.admission.caller.account_version,
            "anew": False,
            "admit_by_ms": self.task.created_ms + ADMIT_WITHIN_MS,
            "images": self.admission.images,
            "budgets": [
                budget_order(budget.scope, budget.owner, budget.budget.limit_microusd, choice)
                for budget, choice in zip(self.budgets, self.choices, strict=True)
            ],
            "rates": [
                {"key": rate.key, "limit": rate.limit, "units": rate.units} for rate in self.rates
            ],
            "in_flight_retry_ms": IN_FLIGHT_RETRY_MS,
            "only_join": self.admission.only_join,
        }
        if limit is not None:
            order["in_flight"] = limit
        if self.day is not None:
            order["day"] = self.day.order()
        return order

    def understand(self, reply: Reply) -> Admitted | Joined:
        """Return what was admitted or joined; raises the error that a refusal stands for."""
        match reply:
            case [b"admitted", bytes(facts), list(balances), list(rates)]:
                windows = tuple(records.parse_window(one) for one in orjson.loads(facts))
                return Admitted(
                    task=replace(self.task, hold=replace(self.task.hold, windows=windows)),
                    budgets=states_of(windows, integers(balances)),
                    rates=rate_states_of(self.rates, integers(rates)),
                )
            case [b"joined", bytes(task), bytes(trace)]:
                return Joined(TaskId(task.decode()), trace.decode())
            case [b"stale"]:
                raise AccountChangedError(self.task.team)
            case [b"not_joined"]:
                raise NotJoinedError
        raise self._refusal(reply)

    def _refusal(self, reply: Reply) -> GatewayError:  # noqa: PLR0911 - one for each refusal
        match reply:
            case [b"over_budget", _, bytes(facts), int(spent), int(held), int(limit)]:
                window = replace(records.parse_window(orjson.loads(facts)), limit_microusd=limit)
                budget = state_of(window, spent, held)
                price = self.admission.hold_microusd * self.admission.images
                return BudgetExceeded(budget, price_microusd=price)
            case [b"too_fast", int(index), int(wait_ms)]:
                rate = self.rates[index - 1]
                return RateLimited(
                    resource=rate.resource,
                    limit=rate.limit,
                    retry_after_ms=wait_ms,
                    units=rate.units,
                )
            case [b"in_flight", int()]:
                return RateLimited(
                    resource="in-flight",
                    limit=self.admission.caller.team.quotas.in_flight_images or 0,
                    retry_after_ms=IN_FLIGHT_RETRY_MS,
                )
            case [b"day_used", int(used), int(resets_at_ms)] if self.day is not None:
                return DailyQuotaExceeded(
                    limit=self.day.limit, used=used, resets_at_ms=resets_at_ms
                )
            case [b"conflict"]:
                return IdempotencyConflict()
            case [b"expired"]:
                return PictureExpired()
            case _:
                # Late, given up, or the clocks are a whole window apart: nothing was written.
                return StoreUnavailable()


def ask(admission: Admission, *, now_ms: int, owner: str) -> Asked:
    """Return what there is to ask for an admission now."""
    team = admission.caller.team
    budgets = budgets_of(admission.caller, admission.user)
    return Asked(
        admission=admission,
        task=Task(
            id=admission.id,
            team=team.id,
            key_name=admission.caller.key_name,
            user=admission.user,
            model=admission.model,
            operation=admission.operation,
            size=admission.size,
            quality=admission.quality,
            created_ms=now_ms,
            owner=owner,
            epoch=1,
            order=admission.order,
            hold=Hold(amount_microusd=admission.hold_microusd, windows=()),
            renders=tuple(Render(index) for index in range(admission.images)),
            call=place_of(admission.call),
            detached=admission.call.detached,
            references=admission.references,
            callback_url=admission.callback_url,
            surface=admission.call.surface,
            base_url=admission.call.base_url,
            output=admission.output,
            keep_ms=team.keep_ms,
            subject=admission.subject,
            book=admission.book.digest,
            brought=References(admission.order.references.kept),
            trace=admission.trace,
        ),
        budgets=budgets,
        choices=tuple(budget.candidates(now_ms) for budget in budgets),
        rates=rates_of(team, admission.images),
        day=day_quota_of(team, now_ms),
    )


def anew(task: Task) -> dict[str, object]:
    """Return the order that writes a lost task and its open holds again, whatever the limits."""
    unfinished = sum(render.result is None for render in task.renders)
    return {
        "account_version": "",
        "anew": True,
        "admit_by_ms": 0,
        "images": unfinished,
        "budgets": [
            budget_order(window.scope, window.owner, window.limit_microusd, (window,))
            for window in task.hold.windows
        ],
        "rates": [],
    }


def budget_order(
    scope: str, owner: str, limit_microusd: int, choice: Sequence[HeldWindow]
) -> dict[str, object]:
    """Return a budget as the script reads it; a total has no `end_ms` at all."""
    return {
        "scope": scope,
        "owner": owner,
        "limit": limit_microusd,
        "windows": [_window_order(window) for window in choice],
    }


def _window_order(window: HeldWindow) -> dict[str, object]:
    order: dict[str, object] = {
        "key": window.key,
        "start_ms": window.starts_at_ms,
        "facts": records.window_facts(window),
    }
    if window.resets_at_ms is not None:
        order["end_ms"] = window.resets_at_ms
    return order


def call_order(
    team: TeamId,
    call: Call,
    keeping: Keeping,
    *,
    replica: str,
    patience_ms: int = 0,
    attendance: Attendance | None = None,
) -> dict[str, object]:
    """Return a call as `calls.lua` reads it."""
    judging: dict[str, object] = {}
    if attendance is not None:
        judging = {"present": list(attendance.present), "lease_ms": attendance.lease_ms}
    return judging | {
        "count": call.count,
        "waiter": call.waiter,
        "detached": call.detached,
        "join": call.joins,
        "body": call.fingerprint,
        "keyed": bool(call.idempotency),
        "patience_ms": patience_ms,
        "keep_ms": keeping.answer_ms,
        "place_ms": keeping.listed_ms,
        "prefix": task_key(team, TaskId("")),
        "replica": replica,
    }


def call_fields(team: TeamId, call: Call, *, replica: str) -> Mapping[str, str]:
    """Return what the record of a new task says of who waits for it, and at which replica."""
    fields = {"waiter": call.waiter, "waiting": "1", "at": replica, "count": str(call.count)}
    if call.detached or not call.joins:
        fields["alone"] = "1"
    return fields | ({"keyed": idempotency_key(team, call.idempotency)} if call.idempotency else {})


def call_keys(team: TeamId, place: str) -> list[str]:
    """Return where retries of a call are looked for: its tasks, orphans and refusals."""
    return [calls_key(team, place), orphans_key(team, place), refused_key(team, place)]


def opened_keys(task: Task) -> dict[str, str]:
    """Return where windows of the task's budgets are noted that were opened, by scope."""
    owners = {Scope.TEAM: "", Scope.KEY: task.key_name}
    # The same, where both are told.
    if user := task.user or task.subject:
        owners[Scope.USER] = user
    return {scope.value: opened_key(task.team, scope, owner) for scope, owner in owners.items()}


def place_of(call: Call) -> str:
    """Return the name under which retries of a call are looked for: its key sets it apart."""
    return f"{call.fingerprint}:{call.idempotency}" if call.idempotency else call.fingerprint


def integers(reply: Sequence[Reply]) -> list[int]:
    """Return the integers of a script's answer."""
    values = [value for value in reply if isinstance(value, int)]
    if len(values) != len(reply):
        raise TypeError("the script answers integers here")
    return values
