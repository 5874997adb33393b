"""What is learned about one request on its way: for its headers, its log line and its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from email.utils import format_datetime

from starlette.requests import Request

from gateway.domain.ids import RequestId
from gateway.domain.money import format_usd
from gateway.edge.expectation import Expectation
from gateway.ledger.holds import tightest
from gateway.ledger.quotas import RateState
from gateway.tasks.engine import Ticket
from gateway.tasks.live import Outcome
from gateway.telemetry.metrics import OTHER

MS_PER_S = 1000


@dataclass(slots=True)
class RequestRecord:
    """Filled in by whoever learns something; `upstream_s` is time that was not the gateway's own.

    It is None where nobody here knows it: of calls that order nothing, joined ones, others' tasks.
    `client_s` is what the client took to send its body and to take its answer.
    `joined` calls were attached to a task that was paid for before; `saved_microusd` is what theirs
    would have cost. `partial` is how many of the pictures are there, such as 3/4.
    `ends` is the day on which the model is gone, when it is near; `successor` is the one to go to.
    `first_trace` is the trace of the call that a joined one is a retry of.
    `team` and `model` are names of the configuration and the catalogue, never what a client sent.
    """

    request_id: RequestId
    started_s: float
    team: str = OTHER
    model: str = OTHER
    error_code: str = ""
    task: str = ""
    provider: str = ""
    cost_microusd: int | None = None
    remaining_microusd: int | None = None
    upstream_s: float | None = None
    client_s: float = 0.0
    phases_s: dict[str, float] = field(default_factory=dict)
    rates: tuple[RateState, ...] = ()
    unpriced: bool = False
    joined: bool = False
    saved_microusd: int = 0
    first_trace: str = ""
    partial: str = ""
    expectation: Expectation | None = None
    ends: date | None = None
    successor: str = ""

    def note_ticket(self, ticket: Ticket) -> None:
        """Note which task the call became, or was attached to."""
        self.task, self.joined = ticket.task, ticket.joined
        self.first_trace = ticket.trace if ticket.joined else ""

    def note_outcome(self, ticket: Ticket, outcome: Outcome) -> None:
        """Note what the pictures are and cost; a joined call costs nothing."""
        task = outcome.task
        self.provider = task.order.provider
        self.cost_microusd = 0 if ticket.joined else outcome.cost_microusd
        self.saved_microusd = outcome.cost_microusd if ticket.joined else 0
        if len(outcome.delivered) < len(task.renders):
            self.partial = f"{len(outcome.delivered)}/{len(task.renders)}"
        if (budget := tightest(outcome.budgets)) is not None:
            self.remaining_microusd = budget.remaining_microusd

    def note_times(self, ticket: Ticket) -> None:
        """Note what the call's task has learned so far, when it runs here."""
        live = ticket.live
        if live is None or ticket.joined:
            return
        self.rates = live.rates
        self.provider = live.task.order.provider
        self.phases_s = dict(live.phases_s)
        self.upstream_s = live.upstream_s
        budget = tightest(live.budgets)
        self.remaining_microusd = None if budget is None else budget.remaining_microusd

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that tell about the task and the quotas, as far as there are any."""
        told = {
            "x-gateway-task-id": self.task,
            "x-gateway-provider": self.provider,
            "x-gateway-cost-usd": _dollars(self.cost_microusd),
            "x-gateway-budget-remaining-usd": _dollars(self.remaining_microusd),
            "x-gateway-joined": "true" if self.joined else "",
            "x-gateway-partial": self.partial,
        }
        if self.ends is not None:
            midnight = datetime.combine(self.ends, time(), UTC)
            told["sunset"] = format_datetime(midnight, usegmt=True)
            told["x-gateway-successor"] = self.successor
        if self.expectation is not None:
            told |= self.expectation.headers()
        for rate in self.rates:
            told[f"x-ratelimit-limit-{rate.resource}"] = str(rate.limit)
            told[f"x-ratelimit-remaining-{rate.resource}"] = str(rate.remaining)
            told[f"x-ratelimit-reset-{rate.resource}"] = go_duration(rate.reset_ms)
        return [(name.encode(), value.encode()) for name, value in told.items() if value]


def record_of(request: Request) -> RequestRecord:
    """Return the record that the outermost middleware made for this request."""
    record: RequestRecord = request.state.record
    return record


def go_duration(milliseconds: int) -> str:
    """Write a length of time as Go does, and so OpenAI: 120ms, 58.891s, 6m0s, 1h0m0s."""
    if milliseconds < MS_PER_S:
        return f"{milliseconds}ms"
    minutes, rest_ms = divmod(milliseconds, 60 * MS_PER_S)
    seconds = f"{rest_ms / MS_PER_S:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _dollars(microusd: int | None) -> str:
    return "" if microusd is None else format_usd(microusd)
