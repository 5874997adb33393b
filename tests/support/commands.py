"""The command line as a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from gateway.cli.main import app


def commands() -> Iterator[tuple[list[str], Any]]:
    """Yield every command by its path, as the library under typer has it."""
    whole: Any = typer.main.get_command(app)
    for name, one in whole.commands.items():
        if hasattr(one, "commands"):
            yield from (([name, below], each) for below, each in one.commands.items())
        else:
            yield [name], one
