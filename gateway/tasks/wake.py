"""Messages between replicas: something has happened to a task that you see to, or wait for.

Each replica reads one stream. A message only makes something happen sooner that would happen
anyway, so one that is lost, late or repeated is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import orjson
import structlog

from gateway.domain.errors import StoreUnavailable
from gateway.domain.ids import TaskId, TeamId
from gateway.store.client import Store
from gateway.store.keyspace import wake_key

log = structlog.get_logger(__name__)

#: How long one read waits for messages: well below the limit of a call to the store.
BLOCK_MS = 1_000
READ_AT_ONCE = 256
#: Messages nobody read are worth nothing after a while.
KEEP_MESSAGES = 10_000
EXPIRE_S = 600
PAUSE_S = 1.0


NO_TEAM, NO_TASK = TeamId(""), TaskId("")


class Kind(StrEnum):
    """What has happened."""

    #: The upstream called back about a render: look at it now.
    CALLED_BACK = "called_back"
    #: A task that requests here wait for is over.
    OVER = "over"
    #: Tasks were handed over and nobody has taken them yet.
    HANDED_OVER = "handed_over"
    #: A task is to be cancelled.
    CANCEL = "cancel"
    #: The settings file is to be read again.
    RELOAD = "reload"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `upstream_id` is what a callback said, not yet believed.

    `answer_to` names the call that waits for an answer.
    """

    kind: Kind
    team: TeamId = NO_TEAM
    task: TaskId = NO_TASK
    render: int = 0
    upstream_id: str = ""
    answer_to: str = ""


class Wake:
    """Sends messages, and hands those for replica `id` to whoever listens."""

    def __init__(self, store: Store, *, id: str) -> None:  # noqa: A002 - what it is
        self._store = store
        self._id = id
        self._listeners: list[Callable[[Message], None]] = []

    def listen(self, listener: Callable[[Message], None]) -> None:
        """Call this with every message."""
        self._listeners.append(listener)

    async def send(self, replica: str, message: Message) -> None:
        """Leave a message for a replica, or hand it over at once when that is this one.

        Raises StoreUnavailable.
        """
        if replica == self._id:
            self._tell(message)
            return
        key = wake_key(replica)
        await self._store.command(
            "XADD", key, "MAXLEN", "~", KEEP_MESSAGES, "*", "message", orjson.dumps(message)
        )
        await self._store.command("EXPIRE", key, EXPIRE_S)

    async def run(self) -> None:
        """Read messages for ever."""
        # The id is new with this process: all that is there is meant for it.
        after = "0"
        while True:
            try:
                reply = await self._store.command(
                    *("XREAD", "COUNT", READ_AT_ONCE, "BLOCK", BLOCK_MS),
                    *("STREAMS", wake_key(self._id), after),
                )
            except StoreUnavailable:
                await asyncio.sleep(PAUSE_S)
                continue
            after = self._read(reply, after)

    def _read(self, reply: object, after: str) -> str:
        """Hand on what was read; return the id to go on from."""
        for _, entries in reply or []:  # type: ignore[attr-defined] # as redis-py shapes XREAD
            for entry_id, fields in entries:
                after = entry_id.decode()
                try:
                    told = orjson.loads(fields[b"message"])
                    message = Message(**told | {"kind": Kind(told["kind"])})
                except (KeyError, TypeError, ValueError):
                    log.warning("wake_unreadable", action="wake_unreadable", entry=after)
                    continue
                self._tell(message)
        return after

    def _tell(self, message: Message) -> None:
        for listener in self._listeners:
            listener(message)
