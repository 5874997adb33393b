import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.fairness import FairQueue
from gateway.domain.ids import TeamId

A, B, C = TeamId("a"), TeamId("b"), TeamId("c")


def _queue(*items: str) -> FairQueue[str]:
    """Push items such as ``a1``: the letter is the team."""
    queue: FairQueue[str] = FairQueue()
    for item in items:
        queue.push(TeamId(item[0]), item)
    return queue


def _served(queue: FairQueue[str], count: int) -> list[str]:
    served = []
    for _ in range(count):
        [item] = queue.upcoming(1)
        queue.serve(TeamId(item[0]), item)
        served.append(item)
    return served


@pytest.mark.parametrize(
    ("arrivals", "order"),
    [
        # First come first served within a team.
        (["a1", "a2", "a3"], ["a1", "a2", "a3"]),
        # Teams in turn, beginning with who came first; a burst stands behind itself only.
        (["a1", "a2", "a3", "b1"], ["a1", "b1", "a2", "a3"]),
        (["b1", "a1", "a2", "b2", "c1"], ["b1", "a1", "c1", "b2", "a2"]),
        ([], []),
    ],
)
def test_order(arrivals: list[str], order: list[str]) -> None:
    """What is upcoming is what is served, one by one, and then nothing is left."""
    queue = _queue(*arrivals)

    assert order == queue.upcoming(100)
    assert order == _served(queue, len(order))
    assert not queue


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_upcoming_is_bounded(count: int) -> None:
    """No more are named than asked for, and naming them serves nobody."""
    queue = _queue("a1", "a2", "b1", "c1")

    assert ["a1", "b1", "c1", "a2"][:count] == queue.upcoming(count)
    assert len(queue) == 4


def test_a_team_that_was_served_comes_last() -> None:
    """The rotation goes on where it stood, also for who comes later."""
    queue = _queue("a1", "a2", "b1")
    first = _served(queue, 1)
    queue.push(C, "c1")

    assert (["a1"], ["b1", "a2", "c1"]) == (first, queue.upcoming(3))


def test_who_returns_comes_first_of_its_team() -> None:
    """It goes before the others of its team, and before nobody of another."""
    queue = _queue("b1", "a1", "a2")
    queue.push(A, "a0", first=True)

    assert queue.upcoming(4) == ["b1", "a0", "a1", "a2"]


def test_removing_costs_nobody_a_turn() -> None:
    """A team whose first item goes away keeps its place in the rotation."""
    queue = _queue("a1", "a2", "b1")
    queue.remove(A, "a1")

    assert queue.upcoming(2) == ["a2", "b1"]
    assert list(queue) == ["a2", "b1"]


def test_a_team_without_items_is_forgotten() -> None:
    """It leaves the rotation and joins at its end when it comes again."""
    queue = _queue("a1", "b1")
    queue.remove(A, "a1")
    queue.push(A, "a2")

    assert (2, ["b1", "a2"]) == (len(queue), queue.upcoming(9))


@pytest.mark.parametrize("verb", ["serve", "remove"])
def test_what_does_not_wait_cannot_leave(verb: str) -> None:
    """An unknown item is an error, and the count stays true."""
    queue = _queue("a1")
    with pytest.raises(KeyError):
        getattr(queue, verb)(A, "a2")
    with pytest.raises(KeyError):
        getattr(queue, verb)(B, "b1")

    assert len(queue) == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 999)), unique=True, max_size=60))
def test_nobody_waits_for_more_than_their_turn(arrivals: list[tuple[str, int]]) -> None:
    """Whatever the arrivals, counts of two teams that both wait never differ by more than one."""
    queue = _queue(*(f"{team}{number}" for team, number in arrivals))
    left = {team: sum(1 for other, _ in arrivals if other == team) for team in "abc"}
    served = dict.fromkeys("abc", 0)
    for item in queue.upcoming(len(queue)):
        served[item[0]] += 1
        left[item[0]] -= 1
        waiting = [served[team] for team in "abc" if left[team]]
        assert all(served[item[0]] - other <= 1 for other in waiting)

    assert sum(served.values()) == len(arrivals)
