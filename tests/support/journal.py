"""The journal of tasks on the real store, and what can be seen of it from outside."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.background import SystemClock
from gateway.domain.clock import Clock
from gateway.domain.errors import StoreUnavailable
from gateway.domain.pricing import NO_CHARGE, Charge, ChargeBasis
from gateway.domain.task import Event, FailureKind, Render, RenderState, Task
from gateway.store.client import Argument, Reply, Store
from gateway.store.connect import Acknowledgement
from gateway.store.scripts import Script
from gateway.tasks.admissions import Keeping
from gateway.tasks.interface import Admission, Admitted, Ending
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.replica import Attendance

KEEPING = Keeping(record_ms=60_000, answer_ms=3_600_000, listed_ms=86_400_000)

LINK = "https://files.evolink.ai/x_0.png"


class LaterClock(SystemClock):
    """The machine's clocks, moved by hand; both by the same amount."""

    def __init__(self, shift_s: float = 0.0) -> None:
        self.shift_s = shift_s

    def now_ms(self) -> int:
        """Return the time of day plus the shift."""
        return super().now_ms() + round(self.shift_s * 1000)

    def monotonic_s(self) -> float:
        """Return the monotonic time plus the shift."""
        return super().monotonic_s() + self.shift_s

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        self.shift_s += seconds


def a_journal(
    store: Store,
    *,
    owner: str = "replica_1",
    clock: Clock | None = None,
    attendance: Attendance | None = None,
) -> RedisTaskStore:
    """Keep tasks in the real server; `attendance` is what the process knows of the others."""
    return RedisTaskStore(
        store,
        clock or SystemClock(),
        owner=owner,
        keeping=KEEPING,
        attendance=lambda: attendance,
    )


async def admitted(journal: RedisTaskStore, admission: Admission) -> Admitted:
    """Admit a call that is none of another's retries."""
    answer = await journal.admit(admission)
    assert isinstance(answer, Admitted)
    return answer


async def submitted(journal: RedisTaskStore, task: Task, index: int = 0) -> Render:
    """Take a queued render to its upstream id."""
    render = await journal.begin_submit(task, task.renders[index], f"run_{index}")
    return await journal.record_submitted(task, render, f"up-{index}")


def a_charge_of(microusd: int) -> Charge:
    """Return what a picture cost; nothing when it was free."""
    if not microusd:
        return NO_CHARGE
    return Charge(microusd, {"image_output": microusd}, ChargeBasis.CREDITS)


def finished(cost_microusd: int = 30) -> Ending:
    """Return the end of a render with a picture."""
    return Ending(Event.FINISH, a_charge_of(cost_microusd), links=(LINK,))


def failed(cost_microusd: int = 0) -> Ending:
    """Return the end of a render without one, at no charge unless one is given."""
    return Ending(Event.FAIL, a_charge_of(cost_microusd), FailureKind.GENERATION_FAILED)


async def budgets_in(store: Store) -> dict[str, tuple[int, int]]:
    """Return spent and held of each budget by name, from the windows themselves."""
    found = {}
    for key in await keys_in(store, "{t:design}:budget:*"):
        reply = await store.command("HMGET", key, "spent", "held")
        assert isinstance(reply, list)
        spent, held = (int(value or 0) for value in reply)  # type: ignore[arg-type]
        found[key.split(":")[5]] = (spent, held)
    return found


async def keys_in(store: Store, pattern: str) -> list[str]:
    """Return the names of keys, on whichever server of the store they are."""
    found: list[str] = []
    for keys in await store.command_everywhere("KEYS", pattern):
        assert isinstance(keys, list)
        found += [key.decode() for key in keys]  # type: ignore[union-attr]
    return sorted(found)


#: All that a store has, by key: how long it lasts (ms, 0 for ever), and what it is.
Moment = dict[str, tuple[int, bytes]]


async def moment_of(store: Store) -> Moment:
    """Return all that the store has, for it to be set back to."""
    moment = {}
    for key in await keys_in(store, "*"):
        lasts_ms, dump = await store.command("PTTL", key), await store.command("DUMP", key)
        assert isinstance(lasts_ms, int)
        assert isinstance(dump, bytes)
        moment[key] = (max(lasts_ms, 0), dump)
    return moment


async def set_back(store: Store, moment: Moment) -> None:
    """Let the store be what it was, as a promoted replica is that had not heard the rest."""
    await store.command_everywhere("FLUSHALL")
    for key, (lasts_ms, dump) in moment.items():
        await store.command("RESTORE", key, lasts_ms, dump)


async def record_in(store: Store, task: str = "task1") -> dict[str, str]:
    """Return a task's record, empty when there is none."""
    fields = await store.command("HGETALL", f"{{t:design}}:task:{task}")
    assert isinstance(fields, dict)
    return {name.decode(): value.decode() for name, value in fields.items()}


async def seen_to_by(store: Store, owner: str = "replica_1") -> list[str]:
    """Return the tasks that a replica has to see to."""
    members = await store.command("ZRANGE", f"{{t:design}}:live:{owner}", 0, -1)
    assert isinstance(members, list)
    return [member.decode() for member in members]  # type: ignore[union-attr]


async def ledger_in(store: Store) -> list[dict[str, str]]:
    """Return the lines of the team's ledger."""
    entries = await store.command("XRANGE", "{t:design}:ledger", "-", "+")
    return [
        {name.decode(): value.decode() for name, value in fields.items()}
        for _, fields in entries  # type: ignore[misc, union-attr]
    ]


async def left_in(journal: RedisTaskStore, task: Task, state: RenderState, index: int = 0) -> Task:
    """Bring a queued render to a state, and leave it there; return the task as it is then."""
    render = task.renders[index]
    if state is not RenderState.QUEUED:
        render = await journal.begin_submit(task, render, f"run_{index}")
    if state is RenderState.UNKNOWN:
        render = await journal.lose_track(task, render)
    if state in (RenderState.SUBMITTED, RenderState.COMPLETED, RenderState.FAILED):
        render = await journal.record_submitted(task, render, f"up-{index + 1}")
    if state is RenderState.COMPLETED:
        render = (await journal.conclude(task, render, finished())).render
    if state is RenderState.FAILED:
        render = (await journal.conclude(task, render, failed())).render
    return task.with_render(render)


class TroubledStore(Store):
    """A store that has an accident with scripts, once for each name in its lists.

    It loses the answers of those in `losing`, after they ran; and comes back empty before it runs
    those in `forgetting`.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_ms=2_000)
        self.losing: list[str] = []
        self.forgetting: list[str] = []
        self.doubts_more = 0

    @property
    def doubts(self) -> int:
        """Tell of as many doubts more as the test says."""
        return super().doubts + self.doubts_more

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        acknowledgement: Acknowledgement | None = None,
    ) -> Reply:
        """Run a script, with its accident when it is its turn."""
        if script.name in self.forgetting:
            self.forgetting.remove(script.name)
            await self.command_everywhere("FLUSHALL")
        reply = await super().run(script, keys, arguments, acknowledgement=acknowledgement)
        if script.name in self.losing:
            self.losing.remove(script.name)
            raise StoreUnavailable
        return reply
