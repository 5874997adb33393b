import asyncio
import gc

from gateway.simulator.errands import Errands


async def test_work_outlives_whoever_asked_for_it() -> None:
    """It is held while it runs, and by nothing else."""
    errands, done, gate = Errands(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await gate.wait()
        done.set()

    errands.start(work(), name="work")
    await asyncio.sleep(0)
    gc.collect()
    gate.set()
    async with asyncio.timeout(5):
        await done.wait()
    await asyncio.sleep(0)

    assert set() == errands._open


async def test_failures_are_told_to_the_loop() -> None:
    """What work raises does not vanish."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(str(context["exception"]))
    )

    async def work() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("lost")

    Errands().start(work(), name="work")
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()

    assert ["lost"] == told
