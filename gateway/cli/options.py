"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Option(help="The settings file.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
OneTeam = Annotated[str, typer.Option(help="One team; all of them when absent.")]

#: Where the settings are, unless told otherwise.
SETTINGS = Path("config.toml")
