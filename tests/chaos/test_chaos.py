"""The short form of `make chaos`: twenty rounds of one seed, every deed of a block once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.plan import BLOCK, plan_of
from tests.chaos.run import play_all, summary

SEED = 7
#: More than by default: nothing else runs beside this test.
LANES = 6


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_one_picture_is_one_charge_whatever_happens(tmp_path: Path) -> None:
    """However processes, stores and answers fail, the bill is what teams were charged."""
    lines: list[str] = []
    plans = [plan_of(SEED, number) for number in range(1, BLOCK + 1)]
    rounds = await play_all(plans, tmp_path, lanes=LANES, tell=lines.append)

    told = "\n".join([*lines, summary(rounds, seed=SEED)])
    assert [] == [played.plan.number for played in rounds if played.differences], told
    assert BLOCK == len(rounds), told
