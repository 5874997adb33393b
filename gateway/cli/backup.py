"""`gateway backup` and `gateway restore`: the embedded store in one file, and back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from gateway import __version__
from gateway.assembly.from_settings import keeping_of
from gateway.assembly.ways_out import opened_providers
from gateway.background import SystemClock
from gateway.cli.books import books_on, on_settings, refuse
from gateway.cli.fault_points import FAULT_ENV, fault_point
from gateway.cli.opened_store import opened_store
from gateway.cli.options import SETTINGS, Config, Json
from gateway.config.addresses import EMBEDDED
from gateway.config.load import Loaded, process_environ
from gateway.service.unbooked import Unbooked, known_ids, unbooked, withdraw_waiting
from gateway.store.backup import Backup, BackupError, restoring, write_backup
from gateway.store.client import Store
from gateway.store.data_dir import DataDirInUseError
from gateway.tasks.redis_tasks import RedisTaskStore

T = TypeVar("T")

_MS_PER_S = 1000


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restored store is, and what there is to know before it serves."""

    backup: Backup
    withdrawn: int
    accounts: list[Unbooked]
    unasked: str = ""


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; a file there is replaced.")],
    *,
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Write everything in the embedded store to a file, while gateways go on.

    It holds the books, the accounts and the tasks, but no pictures. Prompts of pictures that are
    being made are in it: keep it as safe as the store.
    """
    if not file.parent.is_dir():
        refuse(f"{file.parent} is no folder.")

    async def work(loaded: Loaded) -> Backup:
        async with opened_store(loaded) as store:
            return await write_backup(
                store,
                loaded.settings.redis.data_dir,
                file,
                now_ms=SystemClock().now_ms(),
                version=__version__,
                reached=_faults(),
            )

    with Console(stderr=True).status("writing the backup"):
        about = _on_embedded(config, work)
    if json_output:
        typer.echo(json.dumps(asdict(about), indent=2))
        return
    typer.echo(f"{file}: {about.keys} keys, {about.bytes} bytes.")


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put aside what the store holds now.")
    ] = False,
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """Make a backup the embedded store of this machine; no gateway may run on it.

    What waited for its submission is withdrawn: it may have been submitted since. What the
    upstreams made since is compared with the books, and told. Interrupted at any moment, either
    the books from before are in force or the restored ones.
    """

    async def work(loaded: Loaded) -> Restored:
        settings = loaded.settings.redis
        now_ms, faults = SystemClock().now_ms(), _faults()
        staging = restoring(
            file, settings.data_dir, now_ms=now_ms, replaces=replace, reached=faults
        )
        try:
            async with (
                staging as staged,
                Store(staged.url, timeout_ms=settings.timeout_ms) as store,
            ):
                restored = await _compared(loaded, store, staged.backup)
                faults("compared")
        except DataDirInUseError:
            refuse("a gateway is at work on these books: stop it, and start it again afterwards.")
        return restored

    with Console(stderr=True).status("restoring"):
        restored = _on_embedded(config, work)
    if json_output:
        typer.echo(json.dumps(_fields(restored), indent=2))
        return
    _print(restored)


async def _compared(loaded: Loaded, store: Store, about: Backup) -> Restored:
    journal = RedisTaskStore(store, SystemClock(), owner="", keeping=keeping_of(loaded.settings))
    books = books_on(store, loaded)
    teams = sorted(set(await books.teams()) | await journal.teams())
    withdrawn = await withdraw_waiting(journal, teams)
    if loaded.missing_secrets:
        missing = ", ".join(problem.path for problem in loaded.missing_secrets)
        return Restored(about, withdrawn, [], unasked=f"secrets are not here: {missing}")
    known = await known_ids(journal, books.redis, teams)
    async with opened_providers(loaded) as providers:
        accounts = await unbooked(providers, known, since_s=about.made_at_ms // _MS_PER_S)
    return Restored(about, withdrawn, accounts)


def _on_embedded(config: Path, work: Callable[[Loaded], Awaitable[T]]) -> T:
    """Run a command's work on the embedded store; what cannot be done ends it with 1."""

    async def on_embedded(loaded: Loaded) -> T:
        if loaded.secrets.redis_url.get_secret_value() != EMBEDDED:
            refuse("redis.url names a server that is not ours: use its own backups.")
        return await work(loaded)

    try:
        return on_settings(config, on_embedded)
    except BackupError as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}.")


def _faults() -> Callable[[str], None]:
    return fault_point(process_environ().get(FAULT_ENV, ""))


def _fields(restored: Restored) -> dict[str, object]:
    return {
        "backup": asdict(restored.backup),
        "withdrawn": restored.withdrawn,
        "not_compared": restored.unasked or None,
        "accounts": [
            {
                "provider": account.provider,
                "not_compared": account.reason or None,
                "unbooked": [
                    {
                        "id": task.upstream_id,
                        "created": task.created_s,
                        "model": task.model,
                        "status": task.status,
                        "credits": None if task.credits_used is None else float(task.credits_used),
                    }
                    for task in account.tasks
                ],
            }
            for account in restored.accounts
        ],
    }


def _print(restored: Restored) -> None:
    made_at = _moment(restored.backup.made_at_ms // _MS_PER_S)
    typer.echo(f"Restored: {restored.backup.keys} keys as of {made_at} UTC.")
    if restored.withdrawn:
        typer.echo(f"{restored.withdrawn} tasks that waited for their submission are withdrawn.")
    if restored.unasked:
        typer.echo(f"Not compared with the upstreams: {restored.unasked}.")
    for account in restored.accounts:
        if account.reason:
            typer.echo(f"{account.provider}: cannot be compared: {account.reason}.")
        elif not account.tasks:
            typer.echo(f"{account.provider}: made nothing since that is not in the books.")
        else:
            typer.echo(f"{account.provider}: made since, and not in these books:")
            Console().print(_table(account))


def _table(account: Unbooked) -> Table:
    table = Table(box=None)
    for name in ("created (UTC)", "upstream id", "model", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("credits", justify="right", no_wrap=True)
    for task in account.tasks:
        credits_used = "" if task.credits_used is None else f"{float(task.credits_used):g}"
        table.add_row(
            _moment(task.created_s), task.upstream_id, task.model, task.status, credits_used
        )
    return table


def _moment(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
