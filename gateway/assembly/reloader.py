"""Takes over a changed settings file while the gateway runs: whole, or not at all.

A file is read, checked and made into a new front before anything that serves is touched. From
there on nothing can fail: what the house is told are plain values, and the applications are
exchanged in one step. A file that is refused changes nothing, however it was refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from gateway.assembly.front import make_front
from gateway.assembly.gateway import Front, Gateway
from gateway.config.live import changed_secrets, changes, unchangeable, unchangeable_secrets
from gateway.config.load import Loaded, fingerprint_of
from gateway.config.problems import ConfigError, dotted
from gateway.domain.errors import StoreUnavailable
from gateway.tasks.reload_calls import Answer, Outcome, ReloadCalls
from gateway.tasks.wake import Kind, Message

log = structlog.get_logger(__name__)

#: How often the file is looked at. It is taken when two looks saw the same: an editor may be in
#: the middle of writing it.
LOOK_EVERY_S = 0.5

#: Makes what serves a front, and returns what puts it in force; that must not fail.
Prepare = Callable[[Front], Callable[[], None]]

#: What is told of a defect; its trace is in the log.
BROKEN = "the gateway broke while it took the file over; the log has more"


class Reloader:
    """Keeps a gateway to its settings file.

    `loaded` is what it was built of, `read` reads the file at `path` again (in a thread). `taken`
    is called whenever another file is in force.
    """

    def __init__(
        self,
        gateway: Gateway,
        loaded: Loaded,
        *,
        path: Path,
        read: Callable[[], Loaded],
        taken: Callable[[], None] = lambda: None,
    ) -> None:
        self._gateway = gateway
        self._loaded = loaded
        self._path = path
        self._read = read
        self._taken = taken
        self._seen = loaded.fingerprint
        self._calls = ReloadCalls(gateway.store, gateway.clock)
        self._one_at_a_time = asyncio.Lock()
        self._prepare: Prepare = lambda _: lambda: None

    def serve_by(self, prepare: Prepare) -> None:
        """Have this make what serves each new front."""
        self._prepare = prepare

    def start(self) -> None:
        """Hear calls of other processes, and watch the file where its settings say so."""
        self._gateway.wake.listen(self.hear)
        if self._loaded.settings.server.watch:
            self._gateway.background.loop("settings", self.watch)

    def ask(self) -> None:
        """Reload in the background: somebody has asked by a signal."""
        self._gateway.background.step("reload", self._reload())

    def hear(self, message: Message) -> None:
        """Reload when another process asks for it, and answer."""
        if message.kind is Kind.RELOAD:
            self._gateway.background.step("reload", self._answer(message.answer_to))

    async def watch(self) -> None:
        """Reload for ever whenever the file has changed."""
        last = self._seen
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            look = partial(fingerprint_of, self._path, self._loaded.settings)
            now = await asyncio.to_thread(look)
            if now == last and now != self._seen:
                await self.reload()
            last = now

    async def reload(self) -> Answer:
        """Read the file and put it in force; tell what became of it. Raises nothing."""
        async with self._one_at_a_time:
            # What is refused is not tried again until it is another file.
            look = partial(fingerprint_of, self._path, self._loaded.settings)
            self._seen = await asyncio.to_thread(look)
            try:
                answer = await self._take()
            except ConfigError as error:
                answer = Answer(Outcome.REFUSED, tuple(map(str, error.problems)))
                log.error("config_refused", action="config_refused", problems=answer.lines)  # noqa: TRY400 - the problems say it all
            except Exception:  # a defect must not end what serves
                answer = Answer(Outcome.REFUSED, (BROKEN,))
                log.exception("config_refused", action="config_refused", problems=answer.lines)
            self._gateway.metrics.config_reloads.labels(answer.outcome).inc()
            return answer

    async def _take(self) -> Answer:
        loaded = await asyncio.to_thread(self._read)
        before = self._loaded
        if problems := unchangeable(before.settings, loaded.settings):
            raise ConfigError(problems)
        secrets = loaded.require_secrets()
        if problems := unchangeable_secrets(before.secrets, secrets):
            raise ConfigError(problems)
        changed = changes(before.settings, loaded.settings)
        for place in changed_secrets(loaded.settings, before.secrets, secrets):
            # What the file itself says of the change is closer.
            if not any(other[: len(place)] == place for other in changed):
                changed += (place,)
        if not changed:
            self._keep(loaded)
            return Answer(Outcome.UNCHANGED)
        front = make_front(self._gateway, loaded)
        put_in_force = self._prepare(front)
        # All of it is made. Nothing is awaited from here on, and nothing fails.
        self._gateway.take(front)
        put_in_force()
        self._keep(loaded)
        settings = tuple(map(dotted, changed))
        log.info("config_taken", action="config_taken", settings=settings)
        self._taken()
        return Answer(Outcome.TAKEN, settings)

    def _keep(self, loaded: Loaded) -> None:
        self._loaded, self._seen = loaded, loaded.fingerprint

    async def _reload(self) -> None:
        await self.reload()

    async def _answer(self, call: str) -> None:
        answer = await self.reload()
        try:
            await self._calls.answer(call, self._gateway.replica.id, answer)
        except StoreUnavailable:
            log.warning("reload_unanswered", action="reload_unanswered")
