import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.ids import TaskId, make_task_id
from gateway.domain.unified_ids import task_id_of, unified_id
from tests.support.clock import NOON_MS

HIGHEST = make_task_id(b"\xff" * 16)


def test_the_form_is_evolinks() -> None:
    """Prefix, Unix seconds, then letters and digits alone, always as many."""
    lowest = unified_id(make_task_id(bytes(16)), NOON_MS + 999)

    assert lowest == "task-unified-1795435200-0000000000000000000000000"
    assert unified_id(HIGHEST, NOON_MS) == "task-unified-1795435200-f5lxx1zz5pnorynqglhzmsp33"


@given(st.binary(min_size=16, max_size=16), st.integers(min_value=0, max_value=10**13))
def test_every_id_comes_back(random_bytes: bytes, created_ms: int) -> None:
    """Nothing has to be remembered to read an id again."""
    task = make_task_id(random_bytes)

    assert task == task_id_of(unified_id(task, created_ms))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "imgtask_" + "0" * 32,
        "task-unified-1757156493-imcg5zqt",
        "task-unified--0000000000000000000000000",
        "task-unified-1-00000000000000000000000000",
        "task-unified-1-000000000000000000000000A",
        "task-unified-1-000000000000000000000000\u0665",
        "task-unified-\u0661-0000000000000000000000000",
        "task-unified-1-0000000000000000000000000\n",
        # One more than 128 bits hold.
        "task-unified-1-f5lxx1zz5pnorynqglhzmsp34",
        "task-unified-1-zzzzzzzzzzzzzzzzzzzzzzzzz",
    ],
)
def test_what_is_none_of_ours_carries_no_id(text: str) -> None:
    """EvoLink's own ids, other forms and numbers that are too large are no tasks of ours."""
    assert task_id_of(text) is None


def test_ids_that_we_do_not_make_have_no_such_form() -> None:
    """An id without its 32 digits is a defect, not another task's id."""
    with pytest.raises(ValueError, match="invalid literal"):
        unified_id(TaskId("task1"), NOON_MS)
