"""`gateway teams`: teams of the file and of the store; those of the store can be changed."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.accounts import operator, with_admin
from gateway.cli.books import refuse

app = typer.Typer(help="Teams.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The team.")]
Config = Annotated[Path, typer.Option(help="The settings file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

SETTINGS = Path("config.toml")


@app.command("list")
def list_teams(*, config: Config = SETTINGS, json_output: Json = False) -> None:
    """List all teams."""
    names = with_admin(config, lambda admin: admin.teams())
    typer.echo(json.dumps(names) if json_output else "\n".join(names))


@app.command()
def show(name: Name, *, config: Config = SETTINGS, json_output: Json = False) -> None:  # noqa: ARG001 - taken by every command
    """Show a team's settings as a settings file would have them; always as JSON."""
    table = with_admin(config, lambda admin: admin.team(name))
    typer.echo(json.dumps(table, indent=2, default=str))


@app.command("set")
def set_team(
    name: Name,
    settings: Annotated[
        Path, typer.Option("--from", help="TOML: what would stand below [teams.NAME].")
    ],
    *,
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Make a team, or replace its settings; running gateways notice at once."""
    try:
        table = tomllib.loads(settings.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        refuse(f"{settings} cannot be used: {error}")
    with_admin(config, lambda admin: admin.set_team(name, table, who=operator()))
    typer.echo(
        json.dumps({"team": name}) if json_output else f"The team '{name}' is set.",
    )
