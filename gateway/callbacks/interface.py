"""Callbacks to clients: what is to be told, and how far telling it has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from gateway.domain.ids import TaskId, TeamId


class CallbackEvent(StrEnum):
    """What a client is told of: a task's end, each kind at most once (protocols/evolink.md §6)."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DeliveryStatus(StrEnum):
    """How far a callback is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Callback:
    """What is posted to a client when a task ends; `body` is JSON and goes out byte for byte."""

    team: TeamId
    task: TaskId
    event: CallbackEvent
    url: str = field(repr=False)
    body: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what could never be signed: ValueError for a body that is not UTF-8."""
        self.body.decode()

    @property
    def id(self) -> str:
        """The `webhook-id` of every attempt: receivers know a repetition by it."""
        return delivery_id(self.task, self.event)


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """How far a callback is: `tries` made so far, and how the last of them ended.

    `last` is an HTTP status, one of the words of `courier.Outcome`, or empty before the first.
    `next_try_ms` and `ended_ms` are Unix milliseconds; one of the two is None.
    """

    id: str
    event: CallbackEvent
    status: DeliveryStatus
    tries: int
    last: str
    next_try_ms: int | None
    ended_ms: int | None


@dataclass(frozen=True, slots=True)
class SigningSecrets:
    """What a team's callbacks are signed with; the former one goes on for a while (empty: none)."""

    current: str = field(repr=False)
    former: str = field(default="", repr=False)

    @property
    def all(self) -> tuple[str, ...]:
        """Every secret that signs, newest first."""
        return (self.current, self.former) if self.former else (self.current,)


def delivery_id(task: TaskId, event: CallbackEvent) -> str:
    """Return the id of a task's callback: the same whoever makes it, however often."""
    return f"evt_{task}_{event}"


class Callbacks(Protocol):
    """Takes callbacks and tells how far they are."""

    async def enqueue(self, callback: Callback) -> bool:
        """Write a callback down, to be delivered from now on; False when it was there.

        Raises StoreUnavailable; repeating it is harmless.
        """
        ...

    async def of_task(self, team: TeamId, task: TaskId) -> Sequence[DeliveryState]:
        """Return the callbacks of a task, until a day after each is over. Raises StoreUnavailable.

        Empty when there are none.
        """
        ...


class WebhookSecrets(Protocol):
    """Keeps what each team's callbacks are signed with."""

    async def of_team(self, team: TeamId) -> SigningSecrets:
        """Return a team's secrets; the first call makes them. Raises StoreUnavailable."""
        ...

    async def rotate(self, team: TeamId, *, grace_ms: int, who: str) -> SigningSecrets:
        """Give a team another secret; callbacks are signed with both for `grace_ms`.

        Written into the team's audit as done by `who`. A team that had none gets its
        first. Raises StoreUnavailable; a repetition rotates once more.
        """
        ...
