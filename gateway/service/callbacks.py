"""What an upstream says of a render by calling back: never believed, only a reason to look now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import orjson

from gateway.domain.ids import TaskId, TeamId
from gateway.domain.task import Task
from gateway.domain.tokens import Purpose, Signer
from gateway.tasks.interface import TaskStore
from gateway.tasks.wake import Kind, Message, Wake

#: An upstream's task id is no longer than this.
MAX_ID_CHARS = 200


class Heard(StrEnum):
    """What became of a callback; a metric label."""

    #: Its token is none of ours.
    FORGED = "forged"
    #: The task is over, or no longer kept.
    LATE = "late"
    #: Whoever sees to the task looks at it now.
    WOKE = "woke"


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Names renders in callback URLs below `public_url`, and takes in what comes back.

    `signer` may raise StoreUnavailable, and so may both verbs: the store may come later than this.
    """

    store: TaskStore
    wake: Wake
    signer: Callable[[], Awaitable[Signer]]
    public_url: str
    count: Callable[[str], None]

    async def url(self, task: Task, render: int) -> str:
        """Return where an upstream is to call back about a render."""
        signer = await self.signer()
        token = signer.token(Purpose.CALLBACK, f"{task.team}/{task.id}/{render}")
        return f"{self.public_url}/v1/callbacks/{task.order.provider}/{token}"

    async def hear(self, token: str, body: bytes) -> Heard:
        """Wake whoever sees to the render that a token names."""
        heard = await self._hear(token, body)
        self.count(heard)
        return heard

    async def _hear(self, token: str, body: bytes) -> Heard:
        payload = (await self.signer()).payload(Purpose.CALLBACK, token)
        if payload is None:
            return Heard.FORGED
        team, task, render = payload.split("/")
        owner = await self.store.owner_of(TeamId(team), TaskId(task))
        if owner is None:
            return Heard.LATE
        if owner:
            message = Message(
                Kind.CALLED_BACK, TeamId(team), TaskId(task), int(render), claimed_id(body)
            )
            await self.wake.send(owner, message)
        return Heard.WOKE


def claimed_id(body: bytes) -> str:
    """Return the task id that a callback claims, empty where it claims none that could be one."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    claimed = told.get("id") if isinstance(told, dict) else None
    return claimed if isinstance(claimed, str) and len(claimed) <= MAX_ID_CHARS else ""
