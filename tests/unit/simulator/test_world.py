from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest

from gateway.simulator.clock import Clock
from gateway.simulator.errors import RefusedError
from gateway.simulator.orders import read_order
from gateway.simulator.replies import Manner, Reply
from gateway.simulator.script import Ending, Script
from gateway.simulator.settings import SimulatorSettings
from gateway.simulator.tasks import Task
from gateway.simulator.world import Account, StoredFile, World

ORDER = read_order({"model": "gpt-image-1.5", "quality": "low"}, "a fox")
PRICE = Decimal("0.5332968")
BALANCE = Decimal(100_000)
SETTINGS = SimulatorSettings(seed=1, latency_median_s=8.0, latency_sigma=0.5)


@dataclass
class Hands:
    """A clock that moves when it is told to."""

    now_s: float = 0.0

    @property
    def clock(self) -> Clock:
        """Show these hands to a world."""
        return Clock(monotonic_s=lambda: self.now_s, wall_s=lambda: 1_790_000_000 + self.now_s)


def a_world(settings: SimulatorSettings = SETTINGS) -> tuple[World, Hands]:
    """Return a fresh world and the hands of its clock."""
    hands = Hands()
    return World(settings, hands.clock), hands


def submit(world: World, latency_s: float = 10.0, ending: Ending = Ending.PICTURES) -> Task:
    """Submit one low square with a fixed latency."""
    script = Script(latency_s=latency_s, ending=ending, failure="service_error")
    return world.submit(ORDER, script)


def test_price_is_held_while_the_task_runs() -> None:
    """What a running task may cost is not remaining, and not yet used."""
    world, _ = a_world()
    submit(world)

    assert Account(remaining=BALANCE - PRICE, used=Decimal(0)) == world.account()


@pytest.mark.parametrize("reader", ["poll", "account", "stats", "file"])
def test_due_render_is_settled_exactly_once(reader: str) -> None:
    """Whoever reads first, and however often, the books show one charge."""
    world, hands = a_world()
    task = submit(world)
    hands.now_s = 10.0
    readings: dict[str, Callable[[], object]] = {
        "poll": lambda: world.poll(task.id),
        "account": world.account,
        "stats": world.stats,
        "file": lambda: world.file(task.files[0]),
    }
    for _ in range(3):
        readings[reader]()

    assert (world.stats().credits_used, world.stats().renders_completed) == (PRICE, 1)
    assert Account(remaining=BALANCE - PRICE, used=PRICE) == world.account()


def test_renders_settle_when_they_are_due() -> None:
    """Only what is due counts, in the order of due times and not of submits."""
    world, hands = a_world()
    for latency_s in (50.0, 40.0, 30.0, 20.0, 10.0):
        submit(world, latency_s)
    completed = []
    for hands.now_s in (9.0, 10.0, 29.0, 30.0, 40.0, 50.0):
        completed.append(world.stats().renders_completed)

    assert completed == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "ending", [Ending.FAILED, Ending.FAILED_SILENTLY, Ending.CANCELLED, Ending.CANCELED]
)
def test_bad_endings_are_refunded(ending: Ending) -> None:
    """A failure gives the reservation back and counts no render."""
    world, hands = a_world()
    submit(world, ending=ending)
    hands.now_s = 10.0

    assert Account(remaining=BALANCE, used=Decimal(0)) == world.account()
    assert world.stats().renders_completed == 0


def test_empty_completion_is_charged_and_has_no_file() -> None:
    """Completed without results costs the full price."""
    world, hands = a_world()
    task = submit(world, ending=Ending.NO_RESULTS)
    hands.now_s = 10.0

    assert world.account().used == PRICE
    assert world.file(task.files[0]) is None


def test_balance_is_never_passed() -> None:
    """A submit that costs more than what remains is 402 and changes nothing."""
    world, hands = a_world(replace(SETTINGS, credits_balance=2 * PRICE))
    submit(world)
    submit(world, ending=Ending.FAILED)
    with pytest.raises(RefusedError) as refused:
        submit(world)

    assert refused.value.problem.status == 402
    hands.now_s = 10.0
    submit(world)
    assert Account(remaining=Decimal(0), used=PRICE) == world.account()


def test_file_exists_from_due_until_expiry() -> None:
    """A link is dead before the render and after its day."""
    world, hands = a_world(replace(SETTINGS, keep_s=100.0))
    task = submit(world)
    early = world.file(task.files[0])
    hands.now_s = 10.0
    ready = world.file(task.files[0])
    hands.now_s = 110.0
    last = world.file(task.files[0])
    hands.now_s = 110.5

    assert (None, StoredFile(task, 0), StoredFile(task, 0), None) == (
        early,
        ready,
        last,
        world.file(task.files[0]),
    )
    assert world.poll(task.id) is None
    assert world.account().used == PRICE


def test_polls_and_submits_are_counted() -> None:
    """Every poll counts, of unknown ids too; submits are counted by arrival."""
    world, _ = a_world()
    world.count_submit()
    task = submit(world)
    seen = world.poll(task.id)

    assert seen is not None
    assert seen.status == "pending"
    assert world.poll("task-unified-1-aaaaaaaa") is None
    assert (world.stats().submits, world.stats().polls) == (1, 2)


def test_seed_repeats_after_a_reset() -> None:
    """The same requests give the same ids, latencies and files again."""
    world, _ = a_world()
    world.count_submit()
    first = [world.submit(ORDER, Script()) for _ in range(3)]
    world.reset()

    assert world.stats().submits == 0
    assert world.poll(first[0].id) is None
    assert Account(remaining=BALANCE, used=Decimal(0)) == world.account()
    assert first == [world.submit(ORDER, Script()) for _ in range(3)]
    assert len({task.id for task in first}) == 3
    assert len({task.seed for task in first}) == 3


def test_latencies_follow_the_distribution() -> None:
    """Half of the renders are faster than the median, and they spread by sigma."""
    world, _ = a_world()
    latencies = sorted(world.submit(ORDER, Script()).duration_s for _ in range(2001))

    assert 7.5 < latencies[1000] < 8.5
    # One sigma below and above: 8 * exp(-0.5) and 8 * exp(0.5).
    assert 4.4 < latencies[317] < 5.3
    assert 12.2 < latencies[1683] < 14.2


@pytest.mark.parametrize(("median_s", "sigma"), [(0.0, 0.5), (3.0, 0.0)])
def test_constant_latencies(median_s: float, sigma: float) -> None:
    """Without spread every render takes the median; a median of zero takes no time."""
    world, _ = a_world(replace(SETTINGS, latency_median_s=median_s, latency_sigma=sigma))

    assert median_s == pytest.approx(world.submit(ORDER, Script()).duration_s)


def test_limits_count_what_is_unfinished() -> None:
    """A submit beyond the limit is 429 until a task has ended, however it ends."""
    world, hands = a_world(replace(SETTINGS, max_in_flight=2))
    for ending in (Ending.PICTURES, Ending.FAILED):
        world.check_limits()
        submit(world, ending=ending)
    with pytest.raises(RefusedError) as refused:
        world.check_limits()
    hands.now_s = 10.0
    world.check_limits()
    submit(world)

    assert 429 == refused.value.problem.status
    assert (1, 2, 1) == (
        world.stats().in_flight,
        world.stats().max_in_flight,
        world.stats().rate_limited,
    )


def test_waiting_task_starts_when_it_is_released() -> None:
    """It holds its price, ends no earlier than planned, and is settled once."""
    world, hands = a_world()
    task = world.submit(ORDER, Script(latency_s=10.0), waiting=True)
    hands.now_s = 20.0
    held = world.account()
    world.release(task.id)
    world.release(task.id)
    seen = world.look(task.id)

    assert Account(remaining=BALANCE - PRICE, used=Decimal(0)) == held
    assert seen is not None
    assert ("completed", 20.0) == (seen.status, seen.task.duration_s)
    assert (1, 0) == (world.stats().renders_completed, world.stats().in_flight)


def test_released_in_time_a_task_keeps_its_latency() -> None:
    """Fetching references runs beside the queue."""
    world, hands = a_world()
    task = world.submit(ORDER, Script(latency_s=10.0), waiting=True)
    hands.now_s = 3.0
    world.release(task.id)
    hands.now_s = 9.9
    early = world.look(task.id)
    hands.now_s = 10.0
    late = world.look(task.id)

    assert early is not None
    assert late is not None
    assert ("processing", "completed") == (early.status, late.status)


def test_waiting_task_that_is_failed_ends_now() -> None:
    """A bad reference is refunded at once."""
    world, hands = a_world()
    task = world.submit(ORDER, Script(latency_s=10.0), waiting=True)
    hands.now_s = 1.0
    world.release(task.id, "image_processing_error", "unreadable")
    seen = world.look(task.id)

    assert seen is not None
    assert ("failed", "unreadable") == (seen.status, seen.task.script.message)
    assert Account(remaining=BALANCE, used=Decimal(0)) == world.account()


def test_release_after_a_reset_does_nothing() -> None:
    """Work that was begun before finds nothing to release."""
    world, _ = a_world()
    task = world.submit(ORDER, Script(), waiting=True)
    world.reset()
    world.release(task.id)

    assert 0 == world.stats().in_flight


def test_limited_replies() -> None:
    """A reply for two times is played twice for each key."""
    world, _ = a_world()
    reply = Reply(Manner.DROP, times=2)
    played = [world.plays(reply, "poll", key) for key in ("a", "a", "a", "b")]

    assert [reply, reply, None, reply] == played
    assert reply == world.plays(reply, "result", "a")
    assert world.plays(None, "poll", "c") is None
    assert Reply(Manner.DROP) == world.plays(Reply(Manner.DROP), "poll", "a")


def test_forgotten_things_are_known_as_expired() -> None:
    """Ids and links that have been are told apart from those that never were."""
    world, hands = a_world(replace(SETTINGS, keep_s=100.0))
    task = submit(world)
    hands.now_s = 200.0
    world.stats()

    assert (True, True, False) == (
        world.expired(task.id),
        world.expired(task.files[0]),
        world.expired("task-unified-1-aaaaaaaa"),
    )


def test_newest_first() -> None:
    """Tasks are shown in the reverse order of their submits."""
    world, _ = a_world()
    ids = [submit(world, latency_s).id for latency_s in (30.0, 10.0, 20.0)]

    assert ids[::-1] == [seen.task.id for seen in world.newest()]


def test_bill_in_microdollars() -> None:
    """Each task is rounded on its own, as a ledger books it."""
    world, hands = a_world()
    for _ in range(3):
        submit(world)
    hands.now_s = 10.0

    assert (3 * 7843, 3 * PRICE) == (world.stats().cost_microusd, world.stats().credits_used)


def test_balance_covers_what_was_asked() -> None:
    """A task that will make less than was asked still has to be affordable whole."""
    order = read_order({"model": "gpt-image-1", "quality": "low", "n": 3}, "a fox")
    world, _ = a_world(replace(SETTINGS, credits_balance=order.price_of(2)))

    with pytest.raises(RefusedError):
        world.submit(order, Script(pictures=1))
