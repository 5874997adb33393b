"""`make chaos`: rounds of faults against the product, each judged by what it left behind.

    make chaos                              200 rounds
    make chaos ARGS="--rounds 1000"         more
    make chaos ARGS="--seed 7 --round 13"   one of them again, alone

Exits with 1 when any round differs from what it has to be. What a round has to be is in verdict.py.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.chaos.clients import answers_of
from tests.chaos.evidence import Evidence, gather
from tests.chaos.plan import Act, Plan, plan_of
from tests.chaos.verdict import differences
from tests.chaos.world import running_world

LONG_ROUNDS = 200
#: Rounds that run side by side: most of a round is waiting.
LANES = 4
#: No round takes longer, whatever happens.
ROUND_WITHIN_S = 300.0

_HEAD = (
    f"{'round':>5}  {'calls':>5} {'tasks':>5} {'submits':>7} {'given':>5} {'kept':>4}"
    f" {'possible':>8} {'spent':>7} {'bill':>7} {'secs':>5}  ok  what was done"
)


@dataclass(frozen=True, slots=True)
class Round:
    """A round that is over; `evidence` is None when it broke."""

    plan: Plan
    folder: Path
    took_s: float
    evidence: Evidence | None
    differences: Sequence[str]

    @property
    def row(self) -> str:
        """The round as a line of the table."""
        figures = " " * 55
        evidence = self.evidence
        if evidence is not None:
            given = sum(len(answer.pictures) for answer in evidence.answers)
            kept = sum(map(len, evidence.pictures.values()))
            possible = sum(render.verb == "possible_charge" for render in evidence.renders)
            spent = max((spent for spent, _ in evidence.windows.values()), default=0)
            figures = (
                f"{len(evidence.answers):>5} {len({one.task for one in evidence.renders}):>5}"
                f" {len(evidence.orders):>7} {given:>5} {kept:>4} {possible:>8}"
                f" {spent:>7} {evidence.bill_microusd:>7}"
            )
        ok = "NO" if self.differences else "ok"
        return f"{self.plan.number:>5}  {figures} {self.took_s:>5.1f}  {ok}  {self.plan}"


async def play(plan: Plan, folder: Path) -> Round:
    """Play one round in a folder of its own and judge it."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    evidence, found = None, []
    try:
        async with asyncio.timeout(ROUND_WITHIN_S):
            evidence = await _evidence_of(plan, folder)
            found = differences(plan, evidence)
    except Exception as error:  # noqa: BLE001 - a round that breaks is a finding, not the end
        found = [f"the round broke: {_told(error)}"]
    return Round(plan, folder, loop.time() - started_s, evidence, found)


async def _evidence_of(plan: Plan, folder: Path) -> Evidence:
    async with running_world(plan, folder) as world:
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(answers_of(plan, f"{world.balancer.url}/v1"))
            playing = [(one, group.create_task(world.play(one))) for one in plan.moments]
            await asyncio.wait({calling})
            for moment, played in playing:
                if moment.act is Act.CONTINUE:
                    played.cancel()
        await world.heal()
        return await gather(world, calling.result())


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_told, error.exceptions))
    return f"{type(error).__name__}: {error}"


async def play_all(
    plans: Sequence[Plan], root: Path, *, lanes: int, tell: Callable[[str], None]
) -> list[Round]:
    """Play rounds side by side; what a good round leaves in its folder is removed."""
    waiting, done = deque(plans), list[Round]()

    async def lane() -> None:
        while waiting:
            plan = waiting.popleft()
            folder = root / f"r{plan.number}"
            folder.mkdir()
            played = await play(plan, folder)
            done.append(played)
            tell(played.row)
            for difference in played.differences:
                tell(f"       {difference}")
            if not played.differences:
                await asyncio.to_thread(shutil.rmtree, folder)

    tell(_HEAD)
    async with asyncio.TaskGroup() as group:
        for _ in range(lanes):
            group.create_task(lane())
    return done


def summary(rounds: Sequence[Round], *, seed: int) -> str:
    """Return what all rounds come to, and how to replay those that differ."""
    evidences = [played.evidence for played in rounds if played.evidence is not None]
    bad = sorted(played.plan.number for played in rounds if played.differences)
    lines = [
        (
            f"seed {seed}: {len(rounds)} rounds, {len(bad)} of them differ;"
            f" {sum(len(evidence.answers) for evidence in evidences)} calls,"
            f" {sum(len(evidence.orders) for evidence in evidences)} submissions,"
            f" ${sum(evidence.bill_microusd for evidence in evidences) / 1e6:.6f} billed"
        )
    ]
    lines += [f'replay: make chaos ARGS="--seed {seed} --round {number}"' for number in bad]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: another one every time")
    parser.add_argument("--rounds", type=int, default=LONG_ROUNDS, help="how many")
    parser.add_argument("--first", type=int, default=1, help="number of the first one")
    parser.add_argument("--round", type=int, default=None, help="this one alone")
    parser.add_argument("--lanes", type=int, default=LANES, help="rounds that run side by side")
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    first, rounds = (asked.first, asked.rounds) if asked.round is None else (asked.round, 1)
    plans = [plan_of(seed, number) for number in range(first, first + rounds)]
    root = Path(tempfile.mkdtemp(prefix="chaos-"))

    # Kept: commands that rounds run are given another one for a while.
    out = sys.stdout

    def tell(line: str) -> None:
        print(line, file=out, flush=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        played = runner.run(play_all(plans, root, lanes=asked.lanes, tell=tell))
    tell(summary(played, seed=seed))
    if any(one.differences for one in played):
        tell(f"logs: {root}")
        return 1
    root.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
