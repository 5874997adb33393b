"""`gateway teams`: teams of the file and of the store; those of the store can be changed."""

from __future__ import annotations

import json
import secrets
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from gateway.background import SystemClock
from gateway.callbacks.interface import SigningSecrets
from gateway.callbacks.team_secrets import TeamSecrets
from gateway.cli.accounts import admin_of, operator, with_admin, with_store
from gateway.cli.books import refuse
from gateway.cli.options import SETTINGS, Config, Json
from gateway.config.load import Loaded
from gateway.config.values import parse_duration_ms
from gateway.service.webhooks import Webhooks
from gateway.store.client import Store

app = typer.Typer(
    help="Make, change and show teams, and what their callbacks are signed with.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="The team.")]


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
        Path, typer.Option("--from", help=r"TOML: what would stand below \[teams.NAME].")
    ],
    *,
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Make a team, or replace its settings; running gateways notice at once."""
    try:
        table = tomllib.loads(settings.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        refuse(f"{settings} cannot be read: {error.strerror}.")
    except ValueError as error:
        refuse(f"{settings} is no TOML: {error}.")
    with_admin(config, lambda admin: admin.set_team(name, table, who=operator()))
    typer.echo(
        json.dumps({"team": name}) if json_output else f"The team '{name}' is set.",
    )


@app.command("webhook-secret")
def webhook_secret(
    name: Name,
    *,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make another one before it is shown.")
    ] = False,
    grace: Annotated[
        str, typer.Option(help="How long callbacks are signed with the former one too.")
    ] = "24h",
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Show what the team's callbacks are signed with; it is made when it is first asked for."""
    try:
        grace_ms = parse_duration_ms(grace)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None

    async def work(loaded: Loaded, store: Store) -> SigningSecrets:
        kept = TeamSecrets(store, SystemClock(), secrets.token_bytes)
        webhooks = Webhooks(admin_of(loaded, store), kept)
        if rotate:
            return await webhooks.rotate_secret(name, grace_ms=grace_ms, who=operator())
        return await webhooks.secret(name)

    current = with_store(config, work).current
    typer.echo(json.dumps({"team": name, "secret": current}) if json_output else current)
