"""The product's commands, run as users run them: a process each."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.gateway import ENVIRON, START_S


@dataclass(frozen=True, slots=True)
class Done:
    """A command that is over."""

    exit_code: int
    printed: str
    errors: str


async def gateway(*words: str | Path, config: Path, **environ: str) -> Done:
    """Run a command to its end: what it prints is its own, and its main thread, too."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *map(str, words), "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **ENVIRON, **environ},  # noqa: TID251 - a child's environment
    )
    async with asyncio.timeout(START_S):
        printed, errors = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, printed.decode(), errors.decode())
