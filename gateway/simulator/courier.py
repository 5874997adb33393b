"""Carry callbacks: one worker for all of them, alive while there is something to carry."""

import asyncio
import contextlib

import aiohttp

from gateway.simulator import wire
from gateway.simulator.errands import Errands
from gateway.simulator.mailbox import Mail
from gateway.simulator.script import LetterForm
from gateway.simulator.settings import SimulatorSettings
from gateway.simulator.world import World

_AT_A_TIME = 100
_JSON = {"Content-Type": "application/json"}
_SUCCESS = range(200, 300)


class Courier:
    """Send the callbacks of a world when they are due, and repeat those that fail (§6)."""

    def __init__(self, settings: SimulatorSettings, world: World, errands: Errands) -> None:
        self._settings = settings
        self._world = world
        self._errands = errands
        self._running = False
        self._carried = 0
        self._poked = asyncio.Event()

    def wake(self) -> None:
        """Look at the mailbox; to be called after whatever may have filled it."""
        due_s = self._world.mailbox.next_s()
        if due_s is None:
            return
        if self._running:
            self._poked.set()
            return
        self._running = True
        self._errands.start(self._run(), name="callbacks")

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=_AT_A_TIME)
        timeout = aiohttp.ClientTimeout(total=self._settings.callback_timeout_s)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as rounds,
        ):
            while self._running:
                for mail in self._world.mailbox.take(self._world.now_s()):
                    self._carried += 1
                    rounds.create_task(self._carry(session, mail))
                await self._rest()

    async def _rest(self) -> None:
        """Wait until something may be due; note when there is nothing left to wait for."""
        due_s = self._world.mailbox.next_s()
        if due_s is None and not self._carried:
            # Said before anything is awaited: a letter that comes now starts another run.
            self._running = False
            return
        self._poked.clear()
        pause_s = None if due_s is None else max(0.0, due_s - self._world.now_s())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._poked.wait()

    async def _carry(self, session: aiohttp.ClientSession, mail: Mail) -> None:
        content = self._content(mail)
        accepted = content is None or await self._post(session, mail.url, content)
        if not accepted and not self._world.mailbox.again(mail, self._world.now_s()):
            self._world.counts.callbacks_given_up += 1
        self._carried -= 1
        self._poked.set()

    async def _post(self, session: aiohttp.ClientSession, url: str, content: bytes) -> bool:
        counts = self._world.counts
        counts.callbacks_sent += 1
        try:
            # Redirects are not followed: what EvoLink does with them is unknown (§18.10).
            async with session.post(
                url, data=content, headers=_JSON, allow_redirects=False
            ) as answer:
                accepted = answer.status in _SUCCESS
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            accepted = False
        counts.callbacks_accepted += accepted
        return accepted

    def _content(self, mail: Mail) -> bytes | None:
        """Return what the callback says now; nothing for a task that was forgotten meanwhile."""
        if mail.form is LetterForm.GARBAGE:
            return b"<html>this is not JSON</html>"
        as_is = mail.form in {LetterForm.TASK, LetterForm.TRIMMED}
        seen = self._world.look(mail.task_id) if as_is else self._world.look_ahead(mail.task_id)
        if seen is None:
            return None
        shape = seen.task.script.shape or self._settings.shape
        body = wire.task_body(
            seen, seen.task.origin.base_url, shape, per_usd=self._settings.credits_per_usd
        )
        return wire.encode(wire.letter_body(body, mail.form))
