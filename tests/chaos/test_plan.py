from __future__ import annotations

from tests.chaos.plan import BLOCK, POINTS, Act, plan_of


def test_a_plan_is_its_seed_and_number() -> None:
    """A round can be replayed alone, whatever was played before it."""
    plans = [plan_of(7, number) for number in range(1, 41)]

    assert [plan_of(7, number) for number in range(1, 41)] == plans
    assert plan_of(8, 1) != plans[0]
    assert len(plans) == len(set(plans))


def test_a_block_has_every_deed() -> None:
    """Twenty rounds kill at every point, stop, stall and crash; two blocks pause at every point."""
    plans = [plan_of(7, number) for number in range(1, 2 * BLOCK + 1)]
    first = plans[:BLOCK]
    traps = [trap.spec.rpartition(":")[0] for plan in plans for trap in plan.traps]

    assert {f"kill:{point}" for point in POINTS} <= set(traps[: len(traps) // 2])
    assert {f"pause:{point}" for point in POINTS} <= set(traps)
    assert set(Act) - {Act.TERM} <= {moment.act for plan in first for moment in plan.moments}
    assert Act.TERM in {moment.act for plan in plans for moment in plan.moments}
    assert BLOCK // 2 == sum(plan.proven for plan in first)
    assert 0 < sum(plan.embedded for plan in first) < BLOCK


def test_stores_that_are_not_ours_are_not_crashed() -> None:
    """Only a store that a gateway runs by itself is killed: it comes back with all it knew."""
    plans = [plan_of(seed, number) for seed in range(5) for number in range(1, 41)]

    assert all(
        plan.embedded for plan in plans if any(moment.act is Act.CRASH for moment in plan.moments)
    )
