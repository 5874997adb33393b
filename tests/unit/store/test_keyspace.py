import re

import pytest

from gateway.domain.ids import TaskId, TeamId
from gateway.store.keyspace import (
    budget_window_key,
    ledger_key,
    live_key,
    task_key,
    tombstone_key,
)

TEAM, TASK = TeamId("design"), TaskId("imgtask_1")

KEYS = [
    (task_key(TEAM, TASK), "{t:design}:task:imgtask_1"),
    (live_key(TEAM), "{t:design}:live"),
    (tombstone_key(TEAM, TASK), "{t:design}:tombstone:imgtask_1"),
    (budget_window_key(TEAM, "day", 1_795_392_000_000), "{t:design}:budget:day:1795392000000"),
    (ledger_key(TEAM), "{t:design}:ledger"),
]


@pytest.mark.parametrize(("key", "expected"), KEYS)
def test_keys(key: str, expected: str) -> None:
    """Keys are part of what is stored: changing one loses money that is held under it."""
    assert expected == key


def test_keys_of_a_team_share_one_slot() -> None:
    """All keys of a team carry its hash tag, so that one script may touch them on a cluster."""
    tags = {re.findall(r"\{(.*?)\}", key)[0] for key, _ in KEYS}

    assert {"t:design"} == tags


def test_no_two_things_share_a_key() -> None:
    """Different things of a team have different keys."""
    assert len(KEYS) == len({key for key, _ in KEYS})
