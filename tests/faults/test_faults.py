"""Each fault of `make faults` in its short form: what callers see and pay, when it is over."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.faults import FAULTS, Plain, plain
from tests.faults.play import Fault, On, Played, play, play_scene
from tests.support.stores import StoreMissingError

#: Those that can be played one after another on the same processes, and those that cannot.
SHARED = [fault for fault in FAULTS if isinstance(fault.stage, On)]
ALONE = [fault for fault in FAULTS if not isinstance(fault.stage, On)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plain]:
    """Run what most faults need."""
    async with plain(tmp_path_factory.mktemp("plain")) as made:
        yield made


@pytest.mark.timeout(240)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("fault", SHARED, ids=lambda fault: fault.name)
async def test_a_fault_leaves_nothing_behind(fault: Fault, here: Plain) -> None:
    """Callers get the stated answers in time, are served again by themselves, and pay once.

    The next one begins where it has ended.
    """
    assert isinstance(fault.stage, On)
    as_stated(await play_scene(fault, fault.stage.scene(here), short=True))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", ALONE, ids=lambda fault: fault.name)
async def test_a_fault_is_as_it_is_stated(fault: Fault, tmp_path: Path) -> None:
    """Callers get the stated answers in time, are served again by themselves, and pay once."""
    try:
        as_stated(await play(fault, tmp_path, short=True))
    except StoreMissingError as error:
        if os.environ.get("CI") == "true":  # noqa: TID251 - where everything is installed first
            raise
        pytest.skip(str(error))


def as_stated(played: Played) -> None:
    """Fail when a fault was otherwise than it is stated."""
    assert [] == played.problems, f"{played.before}, {played.during}, {played.retried}"
