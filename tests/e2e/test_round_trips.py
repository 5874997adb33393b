"""What one picture costs in round trips to the store, counted by the store itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.gateway import Running, running_gateway

PICTURES = 20

#: A replica that renews its lease every twelve seconds.
QUIET = 'lease = "60s"'


async def scripts_run(running: Running) -> int:
    """Return how many scripts clients have called; EVAL only teaches a new server."""
    stats = await running.gateway.store.command("INFO", "commandstats")
    assert isinstance(stats, dict)
    return sum(
        stats[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats
    )


async def test_a_picture_takes_five_scripts_and_admission_one(tmp_path: Path) -> None:
    """Admit, enter, begin, submitted, conclude: five round trips, and one more for many pictures.

    Entering the account is shared by those that come at once. What the process says of itself,
    every few seconds, is counted with them.
    """
    async with running_gateway(tmp_path, server=QUIET) as running:
        await running.generate()
        await running.gateway.shelf.flush()
        before = await scripts_run(running)
        refused = await running.generate("too dear " * 30_000)
        at_refusal = await scripts_run(running)
        answers = await asyncio.gather(*(running.generate() for _ in range(PICTURES)))
        at_answers = await scripts_run(running)
        await running.gateway.shelf.flush()
        after = await scripts_run(running)

    assert [200] * PICTURES == [answer.status_code for answer in answers]
    assert (400, 0) == (refused.status_code, at_refusal - before)
    # Notes go out by themselves, too: then nothing is left for the last flush.
    assert 4 * PICTURES < at_answers - at_refusal <= 5 * PICTURES + 10
    assert after - at_answers <= 5
    assert 4 * PICTURES + 1 < after - at_refusal


async def test_a_refused_call_takes_one_script(tmp_path: Path) -> None:
    """A budget that refuses costs one round trip and reaches no upstream.

    What the process says of itself, every few seconds, falls into few of several calls.
    """
    async with running_gateway(tmp_path, budget="0.001", server=QUIET) as running:
        await running.generate()
        scripts = []
        for _ in range(5):
            before = await scripts_run(running)
            answer = await running.generate()
            scripts.append(await scripts_run(running) - before)
            assert 429 == answer.status_code
        simulated = await running.simulated()

    assert 1 == min(scripts)
    assert 0 == simulated["submits"]
