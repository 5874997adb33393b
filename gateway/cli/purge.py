"""`gateway purge`: everything of an end user is gone but what the books say."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from gateway.access.redis_accounts import RedisAccounts
from gateway.assembly.from_settings import asset_place, keeping_of
from gateway.assets.object_store import ObjectAssetStore
from gateway.background import SystemClock
from gateway.cli.books import on_settings, refuse
from gateway.cli.opened_store import opened_store
from gateway.cli.options import SETTINGS, Config, Json, OneTeam
from gateway.config.load import Loaded
from gateway.domain.errors import InternalError
from gateway.domain.ids import TeamId
from gateway.service.admin import NoSuchError
from gateway.service.deletion import Deletion, Purged
from gateway.tasks.forgetting import Forgetting
from gateway.tasks.redis_tasks import RedisTaskStore


def purge(
    *,
    user: Annotated[str, typer.Option(help="The end user, as calls name it.")],
    team: OneTeam = "",
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Delete the pictures and tasks of an end user: `safety_identifier` or `user` of a call.

    What they have cost stays in the ledger. Exits with 1 while tasks of the user are running.
    """
    try:
        with Console(stderr=True).status("deleting"):
            found = on_settings(config, lambda loaded: _purge(loaded, team, user))
    except InternalError:
        refuse("the store of pictures does not answer: nothing more was deleted.")
    deleted = sum(each.deleted for each in found.values())
    running = [task for each in found.values() for task in each.running]
    if json_output:
        typer.echo(json.dumps({"deleted": deleted, "running": running}, indent=2))
    else:
        typer.echo(f"{deleted} tasks are deleted.")
        for task in running:
            typer.echo(f"{task} is still running: purge again when it is over.")
    if running:
        raise typer.Exit(1)


async def _purge(loaded: Loaded, only: str, user: str) -> dict[TeamId, Purged]:
    if loaded.settings.assets.url == "memory:":
        refuse("assets.url: pictures are in the gateway's memory, out of reach of a command.")
    async with opened_store(loaded) as store:
        keeping = keeping_of(loaded.settings)
        tasks = RedisTaskStore(store, SystemClock(), owner="", keeping=keeping)
        assets = ObjectAssetStore.open(asset_place(loaded))
        deletion = Deletion(tasks.read, Forgetting(store), assets)
        names = {*loaded.settings.teams, *await RedisAccounts(store).teams(), *await tasks.teams()}
        if only and only not in names:
            raise NoSuchError(f"There is no team '{only}', and there are no tasks of it.")
        chosen = [only] if only else sorted(names)
        return {TeamId(name): await deletion.purge(TeamId(name), user) for name in chosen}
