"""`gateway purge`: everything of an end user is gone but what the books say."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.access.redis_accounts import RedisAccounts
from gateway.assembly.from_settings import asset_place, keeping_of
from gateway.assets.interface import AssetUnavailableError
from gateway.assets.object_store import ObjectAssetStore
from gateway.background import SystemClock
from gateway.cli.books import refuse
from gateway.cli.opened_store import opened_store
from gateway.config.load import Loaded, load, process_environ
from gateway.config.problems import ConfigError
from gateway.domain.errors import InternalError, StoreUnavailable
from gateway.domain.ids import TeamId
from gateway.service.deletion import Deletion, Purged
from gateway.store.data_dir import EmbeddedServerError
from gateway.tasks.forgetting import Forgetting
from gateway.tasks.redis_tasks import RedisTaskStore


def purge(
    *,
    user: Annotated[str, typer.Option(help="The end user, as calls name it.")],
    team: Annotated[str, typer.Option(help="One team; all of them when absent.")] = "",
    config: Annotated[Path, typer.Option(help="The settings file.")] = Path("config.toml"),
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Delete the pictures and tasks of an end user: `safety_identifier` or `user` of a call.

    What they have cost stays in the ledger. Exits with 1 while tasks of the user are running.
    """
    try:
        loaded = load(config, process_environ())
        if loaded.settings.assets.url == "memory:":
            refuse("assets.url: pictures are in the gateway's memory, out of reach of a command.")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(_purge(loaded, team, user))
    except (ConfigError, EmbeddedServerError, AssetUnavailableError) as error:
        refuse(str(error))
    except StoreUnavailable:
        refuse("the store does not answer.")
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
    async with opened_store(loaded) as store:
        keeping = keeping_of(loaded.settings)
        tasks = RedisTaskStore(store, SystemClock(), owner="", keeping=keeping)
        assets = ObjectAssetStore.open(asset_place(loaded))
        deletion = Deletion(tasks.read, Forgetting(store), assets)
        names = {TeamId(only)} if only else set(map(TeamId, loaded.settings.teams))
        if not only:
            names |= {*await RedisAccounts(store).teams(), *await tasks.teams()}
        return {name: await deletion.purge(name, user) for name in sorted(names)}
