import asyncio

import pytest

from gateway.domain.errors import StoreUnavailable
from gateway.tasks.patience import until_stored
from tests.support.clock import in_virtual_time


class Stalled:
    """A store that answers after so many calls without one."""

    def __init__(self, silent: int) -> None:
        self.silent = silent
        self.calls_s: list[float] = []

    async def call(self) -> str:
        """Answer when it is time to."""
        self.calls_s.append(round(asyncio.get_running_loop().time(), 3))
        if len(self.calls_s) <= self.silent:
            raise StoreUnavailable
        return "done"


def test_a_call_is_repeated_until_it_is_answered() -> None:
    """At once for the first time, then ever more slowly, but once a second at the least."""
    store = Stalled(silent=8)

    assert "done" == in_virtual_time(until_stored(store.call))
    assert [0.0, 0.05, 0.15, 0.35, 0.75, 1.55, 2.55, 3.55, 4.55] == store.calls_s


async def test_an_answer_is_an_answer() -> None:
    """What the store refuses is not asked for again."""
    calls = []

    async def refused() -> None:
        calls.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await until_stored(refused)

    assert [1] == calls
