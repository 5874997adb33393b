"""Each fault of `make faults` in its short form: what callers see and pay, when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.faults import FAULTS
from tests.faults.play import Fault, On, Played, Scene, play, play_scene
from tests.support.stores import skipping_what_is_missing

pytestmark = pytest.mark.faults

#: Those that can be played one after another on the same processes, and those that cannot.
SHARED = [fault for fault in FAULTS if isinstance(fault.stage, On)]
ALONE = [fault for fault in FAULTS if not isinstance(fault.stage, On)]


class Places:
    """Makes each place when it is first needed."""

    def __init__(self, folder: Path, held: AsyncExitStack) -> None:
        self._folder = folder
        self._held = held
        self._made: dict[object, object] = {}

    async def scene(self, on: On[Any]) -> Scene:
        """Return the scene of a fault at its place. Raises StoreMissingError."""
        if on.place not in self._made:
            folder = self._folder / str(len(self._made))
            folder.mkdir()
            self._made[on.place] = await self._held.enter_async_context(on.place(folder))
        return on.scene(self._made[on.place])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Places]:
    """Keep places until the last fault was played."""
    async with AsyncExitStack() as held:
        yield Places(tmp_path_factory.mktemp("places"), held)


@pytest.mark.timeout(240)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("fault", SHARED, ids=lambda fault: fault.name)
async def test_a_fault_leaves_nothing_behind(fault: Fault, places: Places) -> None:
    """Callers get the stated answers in time, are served again by themselves, and pay once.

    The next one begins where it has ended.
    """
    assert isinstance(fault.stage, On)
    with skipping_what_is_missing():
        scene = await places.scene(fault.stage)
    as_stated(await play_scene(fault, scene, short=True))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", ALONE, ids=lambda fault: fault.name)
async def test_a_fault_is_as_it_is_stated(fault: Fault, tmp_path: Path) -> None:
    """Callers get the stated answers in time, are served again by themselves, and pay once."""
    with skipping_what_is_missing():
        as_stated(await play(fault, tmp_path, short=True))


def as_stated(played: Played) -> None:
    """Fail when a fault was otherwise than it is stated."""
    assert [] == played.problems, f"{played.before}, {played.during}, {played.retried}"
