import pytest

from gateway.simulator.errors import RefusedError
from gateway.simulator.replays import Replays


def refused_code(replays: Replays, key: str, digest: str) -> str:
    """Return the code of the refusal of a repeated submit."""
    with pytest.raises(RefusedError) as refused:
        replays.find(key, digest)
    assert 409 == refused.value.problem.status
    return refused.value.problem.code


def test_life_of_a_key() -> None:
    """Unknown, open, and bound to the task that it made."""
    replays = Replays()
    assert "" == replays.find("key", "body")
    replays.open("key", "body")
    assert "paid_outcome_unknown" == refused_code(replays, "key", "body")
    replays.bind("key", "task")
    replays.close("key")

    assert "task" == replays.find("key", "body")
    assert "idempotency_conflict" == refused_code(replays, "key", "another")


def test_only_open_keys_are_bound() -> None:
    """A decided key keeps its task, and one that never was opened has none."""
    replays = Replays()
    replays.open("key", "body")
    for task_id in ("first", "second"):
        replays.bind("key", task_id)
    replays.bind("other", "third")

    assert ("first", "") == (replays.find("key", "body"), replays.find("other", "body"))


def test_a_key_can_be_opened_anew() -> None:
    """When its task has expired the key makes another one."""
    replays = Replays()
    for task_id in ("first", "second"):
        replays.open("key", "body")
        replays.bind("key", task_id)

    assert "second" == replays.find("key", "body")


def test_a_key_that_made_nothing_is_free() -> None:
    """After a refusal any body may use it."""
    replays = Replays()
    replays.open("key", "body")
    replays.close("key")

    assert "" == replays.find("key", "another")
