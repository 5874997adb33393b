from __future__ import annotations

import asyncio

import pytest

from gateway.access.recent import Recent
from gateway.domain.errors import StoreUnavailable
from tests.support.clock import FixedClock


class Source:
    """Counts its reads, and answers when it is let."""

    def __init__(self) -> None:
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.down = False

    async def read(self, key: str, last: str | None) -> str:
        """Return a value that tells which read it is."""
        self.reads += 1
        number = self.reads
        await self.gate.wait()
        if self.down:
            raise StoreUnavailable
        return f"{key}{number} after {last}"


async def test_a_value_is_read_once_while_it_is_young() -> None:
    """Within its age no second read; after it, one that is told the last value."""
    clock, source = FixedClock(), Source()
    values = Recent(source.read, clock, max_age_s=0.5)

    assert values.last("a") is None
    assert ["a1 after None"] * 2 == [await values.recent("a"), await values.recent("a")]
    clock.advance(0.5)
    assert "a2 after a1 after None" == await values.recent("a")
    assert "a2 after a1 after None" == values.last("a")


async def test_fresh_reads_again_however_young_the_value() -> None:
    """Whoever must know now gets a read of its own moment."""
    clock, source = FixedClock(), Source()
    values = Recent(source.read, clock, max_age_s=0.5)
    await values.recent("a")
    await values.fresh("a")

    assert 2 == source.reads


async def test_callers_share_one_read_and_its_failure() -> None:
    """A crowd makes one read; when it fails it fails for all, and the next one tries anew."""
    clock, source = FixedClock(), Source()
    values = Recent(source.read, clock, max_age_s=0.5)
    source.gate.clear()
    source.down = True
    crowd = [asyncio.get_running_loop().create_task(values.recent("a")) for _ in range(5)]
    await asyncio.sleep(0)
    source.gate.set()
    outcomes = await asyncio.gather(*crowd, return_exceptions=True)

    assert 1 == source.reads
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    source.down = False
    assert "a2 after None" == await values.recent("a")


async def test_a_reader_that_leaves_does_not_strand_the_others() -> None:
    """When the one that reads is cancelled, somebody else reads."""
    clock, source = FixedClock(), Source()
    values = Recent(source.read, clock, max_age_s=0.5)
    source.gate.clear()
    first = asyncio.get_running_loop().create_task(values.recent("a"))
    await asyncio.sleep(0)
    second = asyncio.get_running_loop().create_task(values.recent("a"))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.gate.set()

    assert "a2 after None" == await second
