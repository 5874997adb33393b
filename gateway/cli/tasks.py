"""`gateway tasks`: what runs and how it ended, for operators, out of the journal itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from gateway.access.redis_accounts import RedisAccounts
from gateway.assembly.from_settings import keeping_of
from gateway.background import SystemClock
from gateway.callbacks.deliveries import Deliveries
from gateway.callbacks.interface import DeliveryState
from gateway.cli.books import on_settings, refuse
from gateway.cli.opened_store import opened_store
from gateway.cli.options import SETTINGS, Config, Json, OneTeam
from gateway.cli.tables import print_whole
from gateway.config.load import Loaded
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.money import format_usd
from gateway.domain.pricing import ChargeBasis
from gateway.domain.task import Render, RenderState, Task
from gateway.service.admin import NoSuchError
from gateway.service.task_json import held_microusd, operator_fields, possible_microusd
from gateway.service.tasks import render_status, status_of
from gateway.tasks.live import Outcome
from gateway.tasks.records import UnreadableTaskError
from gateway.tasks.redis_tasks import RedisTaskStore
from gateway.tasks.wake import Kind, Message, Wake

T = TypeVar("T")

app = typer.Typer(help="List, show and cancel the tasks of teams.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")]
MAX_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of all teams, open for one command."""

    tasks: RedisTaskStore
    callbacks: Deliveries
    wake: Wake
    accounts: RedisAccounts
    in_file: frozenset[TeamId]

    async def teams(self, only: str) -> list[TeamId]:
        """Return the teams there are or were, or the one that is asked for.

        Raises NoSuchError for one that never was.
        """
        known = {*self.in_file, *await self.accounts.teams(), *await self.tasks.teams()}
        if only and only not in known:
            raise NoSuchError(f"There is no team '{only}', and there are no tasks of it.")
        return [TeamId(only)] if only else sorted(known)

    async def newest(self, team: str, limit: int) -> list[Task]:
        """Return the newest tasks of all teams, or of one."""
        found: list[Task] = []
        for name in await self.teams(team):
            found += await self.tasks.listed(name, after="", limit=limit)
        return sorted(found, key=lambda task: task.created_ms, reverse=True)[:limit]

    async def find(self, task: str, team: str) -> Task | None:
        """Return a task, whose ever it is."""
        for name in await self.teams(team):
            if (found := await self.tasks.read(name, TaskId(task))) is not None:
                return found
        return None

    async def told(self, task: str, team: str) -> tuple[Task | None, tuple[DeliveryState, ...]]:
        """Return a task and the callbacks to its client."""
        found = await self.find(task, team)
        if found is None or not found.callback_url:
            return found, ()
        return found, await self.callbacks.of_task(found.team, found.id)

    async def cancel(self, task: Task) -> str:
        """Mark a task as cancelled and tell whoever sees to it; return who that is.

        Raises StoreUnavailable; then it is to be cancelled again: who runs a task hears the
        message, and only who takes it over looks at the mark.
        """
        owner = await self.tasks.cancel(task.team, task.id)
        if owner:
            await self.wake.send(owner, Message(Kind.CANCEL, task.team, task.id))
        return owner or ""


@app.command("list")
def list_tasks(
    *,
    team: OneTeam = "",
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="How many at most.")] = 20,
    config: Config = SETTINGS,
    json_output: Json = False,
) -> None:
    """List tasks, the newest first."""
    tasks = _in_journal(config, lambda journal: journal.newest(team, limit))
    if json_output:
        typer.echo(json.dumps([operator_fields(task) for task in tasks], indent=2))
    elif tasks:
        print_whole(_table(tasks))
    else:
        typer.echo("There are no tasks.")


@app.command()
def show(
    task: Id, *, team: OneTeam = "", config: Config = SETTINGS, json_output: Json = False
) -> None:
    """Show a task: how its pictures stand, where its money is, whether its client was told."""
    read, callbacks = _in_journal(config, lambda journal: journal.told(task, team))
    found = _found(task, read)
    if json_output:
        told = {"callbacks": [_callback_fields(each) for each in callbacks]}
        typer.echo(json.dumps(operator_fields(found) | told, indent=2))
        return
    for name, value in _facts(found).items():
        typer.echo(f"{name:<10} {value}")
    print_whole(_renders(found))
    if callbacks:
        print_whole(_callbacks(callbacks))


@app.command()
def cancel(
    task: Id, *, team: OneTeam = "", config: Config = SETTINGS, json_output: Json = False
) -> None:
    """Cancel what was not submitted yet of a task; what was goes on, and may be charged."""

    async def work(journal: Journal) -> tuple[Task | None, str]:
        found = await journal.find(task, team)
        if found is None or found.over:
            return found, ""
        owner = await journal.cancel(found)
        # Read after the mark: what was posted until then goes on.
        return await journal.find(task, found.team), owner

    read, owner = _in_journal(config, work)
    found = _found(task, read)
    if not found.cancelled:
        refuse(f"nothing of '{found.id}' can be cancelled any more: it is {status_of(found)}.")
    gone = sum(one.state is not RenderState.QUEUED for one in found.renders)
    if json_output:
        told = {"id": found.id, "team": found.team, "cancelled": True, "owner": owner}
        typer.echo(json.dumps(told | {"submitted": gone}, indent=2))
        return
    typer.echo(f"The task '{found.id}' of team '{found.team}' is cancelled.")
    if gone:
        typer.echo(
            f"{gone} of {len(found.renders)} pictures were on their way upstream before; they go on"
            " and may be charged."
        )


def _in_journal(config: Path, work: Callable[[Journal], Awaitable[T]]) -> T:
    """Run a command's work on the journal; what cannot be done ends the command with 1."""
    try:
        return on_settings(config, lambda loaded: _work(loaded, work))
    except UnreadableTaskError as error:
        refuse(f"a task cannot be read: {error}.")


async def _work(loaded: Loaded, work: Callable[[Journal], Awaitable[T]]) -> T:
    async with opened_store(loaded) as store:
        keeping = keeping_of(loaded.settings)
        journal = Journal(
            # Nobody's: a command sees to no task.
            tasks=RedisTaskStore(store, SystemClock(), owner="", keeping=keeping),
            callbacks=Deliveries(store, SystemClock()),
            wake=Wake(store, id=""),
            accounts=RedisAccounts(store),
            in_file=frozenset(map(TeamId, loaded.settings.teams)),
        )
        return await work(journal)


def _found(task: str, found: Task | None) -> Task:
    if found is None:
        refuse(f"there is no task '{task}'.")
    return found


def _table(tasks: list[Task]) -> Table:
    table = Table(box=None)
    for name in ("created (UTC)", "team", "task", "status", "model", "size", "quality", "pictures"):
        table.add_column(name, no_wrap=True)
    table.add_column("cost $", justify="right", no_wrap=True)
    for task in tasks:
        outcome = Outcome(task)
        table.add_row(
            _moment(task.created_ms),
            task.team,
            task.id,
            status_of(task),
            task.model,
            task.size,
            task.quality,
            f"{len(outcome.delivered)}/{len(task.renders)}",
            format_usd(outcome.cost_microusd),
        )
    return table


def _facts(task: Task) -> dict[str, object]:
    facts = {
        "task": task.id,
        "team": task.team,
        "key": task.key_name,
        "user": task.user,
        "status": f"{status_of(task)}{', cancelled' if task.cancelled else ''}",
        "picture": f"{task.model}, {task.operation}, {task.size}, {task.quality}",
        "provider": f"{task.order.provider} ({task.order.account})",
        "owner": task.owner or "nobody",
        "created": _moment(task.created_ms),
        "ended": _moment(task.ended_ms),
        "cost": f"${format_usd(Outcome(task).cost_microusd)}",
        "held": f"${format_usd(held_microusd(task))}" if held_microusd(task) else "",
        "possible": f"${format_usd(possible_microusd(task))}" if possible_microusd(task) else "",
    }
    return {name: value for name, value in facts.items() if value}


def _renders(task: Task) -> Table:
    table = Table(box=None)
    for name in ("picture", "status", "state", "upstream id", "tries", "submitted (UTC)"):
        table.add_column(name, no_wrap=True)
    table.add_column("cost $", justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True)
    for render in task.renders:
        table.add_row(
            str(render.index),
            render_status(render),
            render.state,
            render.upstream_id,
            str(render.tries),
            _moment(render.submitted_ms),
            *_end_of(render),
        )
    return table


def _end_of(render: Render) -> tuple[str, str]:
    result = render.result
    if result is None:
        return "", ""
    why = "possible charge" if result.basis is ChargeBasis.POSSIBLE else ""
    reasons = (result.failure or "", "result_lost" if result.lost else "", why)
    return format_usd(result.cost_microusd), ", ".join(filter(None, reasons))


def _callback_fields(state: DeliveryState) -> dict[str, object]:
    """Return how far a callback is; never its address."""
    return {
        "id": state.id,
        "event": state.event,
        "status": state.status,
        "tries": state.tries,
        "last": state.last or None,
        "next_try": _seconds(state.next_try_ms),
        "ended": _seconds(state.ended_ms),
    }


def _callbacks(states: Sequence[DeliveryState]) -> Table:
    table = Table(box=None)
    for name in ("callback", "status", "tries", "last answer", "next try (UTC)", "ended (UTC)"):
        table.add_column(name, no_wrap=True)
    for state in states:
        table.add_row(
            state.id,
            state.status,
            str(state.tries),
            state.last,
            _moment(state.next_try_ms or 0),
            _moment(state.ended_ms or 0),
        )
    return table


def _seconds(unix_ms: int | None) -> int | None:
    return None if unix_ms is None else unix_ms // 1000


def _moment(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}" if unix_ms else ""
