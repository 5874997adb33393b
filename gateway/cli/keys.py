"""`gateway keys`: keys of teams, made, listed, ended and replaced at run time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from gateway.background import SystemClock
from gateway.cli.accounts import operator, with_admin
from gateway.cli.options import SETTINGS, Config, Json
from gateway.config.values import parse_duration_ms
from gateway.service.admin import Admin, MadeKey

app = typer.Typer(help="Make, renew and end keys of teams.", no_args_is_help=True)

Team = Annotated[str, typer.Option("--team", help="The team.")]
KeyName = Annotated[str, typer.Option("--name", help="What the key is called.")]


@app.command()
def create(
    team: Team,
    *,
    name: KeyName = "default",
    models: Annotated[
        list[str] | None, typer.Option("--model", help="A model the key may use; * is any text.")
    ] = None,
    budgets: Annotated[
        list[str] | None, typer.Option("--budget", help="A limit such as 5/day, in dollars.")
    ] = None,
    per_call_usd: Annotated[str, typer.Option(help="The most one call may cost, in dollars.")] = "",
    expires: Annotated[str, typer.Option(help="How long the key lives, such as 30d.")] = "",
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Make a key and show it, this once."""
    terms: dict[str, Any] = {}
    if models:
        terms["models"] = models
    if budgets:
        terms["budgets"] = [_budget(text) for text in budgets]
    if per_call_usd:
        terms["per_call_usd"] = per_call_usd
    expires_ms = SystemClock().now_ms() + _duration_ms(expires) if expires else None
    made = with_admin(
        config,
        lambda admin: admin.create_key(team, name, terms, expires_ms=expires_ms, who=operator()),
    )
    _show(made, json_output=json_output)


@app.command("list")
def list_keys(team: Team, *, config: Config = SETTINGS, json_output: Json = False) -> None:
    """List the keys made at run time; never a secret."""

    async def work(admin: Admin) -> tuple[dict[str, dict[str, Any]], list[str]]:
        return await admin.keys(team), sorted(admin.names_in_file(team))

    keys, in_file = with_admin(config, work)
    if json_output:
        typer.echo(_json(keys))
        return
    for name, told in keys.items():
        typer.echo(f"{name}\t{told['state']}\t{told['prefix']}")
    if in_file:
        typer.echo(f"In the settings file: {', '.join(in_file)}.", err=True)
    elif not keys:
        typer.echo(f"The team '{team}' has no keys.", err=True)


@app.command()
def revoke(
    team: Team, name: KeyName, *, config: Config = SETTINGS, json_output: Json = False
) -> None:
    """End a key at once, everywhere."""
    with_admin(config, lambda admin: admin.revoke_key(team, name, who=operator()))
    if json_output:
        typer.echo(_json({"team": team, "name": name, "state": "revoked"}))
    else:
        typer.echo(f"The key '{name}' of team '{team}' opens nothing any more.")


@app.command()
def rotate(
    team: Team,
    name: KeyName,
    *,
    grace: Annotated[str, typer.Option(help="How long the old secret stays good.")] = "24h",
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Give a key another secret and show it, this once."""
    grace_ms = _duration_ms(grace)
    made = with_admin(
        config,
        lambda admin: admin.rotate_key(team, name, grace_ms=grace_ms, who=operator()),
    )
    _show(made, json_output=json_output)


def _show(made: MadeKey, *, json_output: bool) -> None:
    if json_output:
        typer.echo(_json({"key": made.secret, **made.told}))
        return
    typer.echo(made.secret)
    typer.echo("Keep it now: it is shown this once and stored nowhere.", err=True)


def _budget(text: str) -> dict[str, Any]:
    amount, _, per = text.partition("/")
    try:
        return {"usd": Decimal(amount), "per": per}
    except InvalidOperation:
        raise typer.BadParameter("expected dollars and a period such as 5/day") from None


def _duration_ms(text: str) -> int:
    try:
        return parse_duration_ms(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, default=str)
