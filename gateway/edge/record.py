"""What is learned about one request on its way: for its headers, its log line and its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.requests import Request

from gateway.domain.ids import RequestId
from gateway.domain.money import format_usd
from gateway.telemetry.metrics import OTHER


@dataclass(slots=True)
class RequestRecord:
    """Filled in by whoever learns something; `upstream_s` is time that was not the gateway's own.

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
    upstream_s: float = 0.0
    phases_s: dict[str, float] = field(default_factory=dict)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that tell about the task, as far as there is one."""
        told = {
            "x-gateway-task-id": self.task,
            "x-gateway-provider": self.provider,
            "x-gateway-cost-usd": _dollars(self.cost_microusd),
            "x-gateway-budget-remaining-usd": _dollars(self.remaining_microusd),
        }
        return [(name.encode(), value.encode()) for name, value in told.items() if value]


def record_of(request: Request) -> RequestRecord:
    """Return the record that the outermost middleware made for this request."""
    record: RequestRecord = request.state.record
    return record


def _dollars(microusd: int | None) -> str:
    return "" if microusd is None else format_usd(microusd)
