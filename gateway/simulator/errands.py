"""Work that outlives the request which asked for it.

The simulator is served without ASGI's lifespan, so no server starts or stops anything for it: the
first request that needs a worker starts one, and the end of the event loop cancels it.
"""

import asyncio
from collections.abc import Coroutine


class Errands:
    """Hold the background work of one simulator, so that none is collected while it runs."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[object, object, None], *, name: str) -> None:
        """Run ``work`` on the running loop; what it raises is logged by the loop."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._open.add(task)
        task.add_done_callback(self._open.discard)
