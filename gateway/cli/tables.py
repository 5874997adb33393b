"""Tables on a terminal, and where there is none."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_MAX_CHARACTERS = 1000


def print_whole(table: Table) -> None:
    """Print a table as wide as it is: an id or an amount that is cut off is of no use."""
    console = Console(highlight=False)
    wide = console.options.update(max_width=_MAX_CHARACTERS)
    console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    console.print(table)
