"""`gateway ledger verify|export|adjust|top-up`: the books themselves."""

from __future__ import annotations

import getpass
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from gateway.cli.books import Books, in_books, refuse
from gateway.cli.exports import (
    STDOUT,
    Exported,
    ExportFailedError,
    Format,
    Tell,
    Writer,
    opened_target,
    span_of,
    write_entries,
)
from gateway.cli.options import SETTINGS, Config, Json, OneTeam
from gateway.domain.errors import InvalidRequest, StoreUnavailable
from gateway.domain.ids import ORGANIZATION, TeamId
from gateway.domain.money import format_usd, parse_signed_microusd
from gateway.ledger.audit import Audit, IncompleteLedgerError, Trimmed, trim, verify
from gateway.ledger.checkpoint import UnreadableCheckpointError
from gateway.ledger.entries import Entry, UnreadableEntryError, Verb, parse_entry
from gateway.ledger.redis_books import (
    BelowZeroError,
    CheckpointMovedError,
    Corrected,
    Correction,
)
from gateway.service.admin import AdminRefusedError
from gateway.service.amounts import standing_fields
from gateway.service.budgets import Paid, Payment
from gateway.service.usage import parse_day

app = typer.Typer(
    no_args_is_help=True, help="Verify, export and correct the books; pay into budgets."
)


#: Bytes of randomness in the id of a correction or of a checkpoint that is being written.
_ID_BYTES = 8

#: What is wrong with the books when they cannot be worked on at all.
_UNUSABLE = (UnreadableCheckpointError, UnreadableEntryError, IncompleteLedgerError)
_MOVED = "somebody else is trimming the ledger; try again."


class NotCorrectedError(Exception):
    """A correction that is not booked, or may not be; the message tells why."""


@app.command("verify")
def verify_command(
    *, team: OneTeam = "", json_output: Json = False, config: Config = SETTINGS
) -> None:
    """Recompute every counter from the ledger; exit with 1 when one differs.

    Safe while gateways run.
    """

    async def read(books: Books) -> list[Audit]:
        teams = await books.teams(team)
        with progress_on(Console(stderr=True)) as tell:
            audits: list[Audit] = []
            for name in teams:
                tell(name, len(audits), len(teams))
                audits.append(await verify(books.redis, name))
            if not team:
                whole = await verify(books.redis, ORGANIZATION)
                audits += [whole] if whole.entries or whole.windows else []
            return audits

    with _refusing():
        audits = in_books(config, read)
    if json_output:
        typer.echo(json.dumps([asdict(audit) for audit in audits], indent=2))
    else:
        for line in _audit_lines(audits):
            typer.echo(line)
    if any(audit.findings for audit in audits):
        raise typer.Exit(1)


@app.command("export")
def export_command(
    *,
    to: Annotated[str, typer.Option(help="A file, a URL such as s3://bucket/name, or -.")],
    since: Annotated[str, typer.Option(help="First UTC day; default: the first there is.")] = "",
    until: Annotated[str, typer.Option(help="Last UTC day; default: today.")] = "",
    output: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.CSV,
    trim_after: Annotated[
        bool, typer.Option("--trim", help="Then remove what was exported; a checkpoint stays.")
    ] = False,
    team: OneTeam = "",
    json_output: Json = False,
    config: Config = SETTINGS,
) -> None:
    """Write the ledger's entries out, oldest first; amounts are integers of micro-dollars."""
    if trim_after and (since or to == STDOUT):
        # What goes must have been written, and everything before a checkpoint goes.
        raise typer.BadParameter("--trim needs a file or a URL, and no --since")
    try:
        span = span_of(
            since=parse_day(since, "since") if since else None,
            until=parse_day(until, "until") if until else None,
        )
    except InvalidRequest as error:
        raise typer.BadParameter(error.message) from None

    async def run(books: Books) -> tuple[Exported, dict[TeamId, Trimmed]]:
        teams = await books.teams(team)
        with progress_on(Console(stderr=True)) as tell:
            async with opened_target(to) as file:
                done = await write_entries(books.redis, teams, span, Writer(file, output), tell)
        trimmed = {
            name: await trim(books.redis, name, upto=last, name=_random_id())
            for name, last in (done.last if trim_after else {}).items()
        }
        return done, trimmed

    with _refusing():
        done, trimmed = in_books(config, run)
    for finding in (finding for each in trimmed.values() for finding in each.findings):
        typer.echo(f"warning: {finding}", err=True)
    removed = sum(each.entries for each in trimmed.values())
    if json_output:
        # Standard output may be the export itself.
        answer = {"exported": done.entries, "trimmed": removed}
        typer.echo(json.dumps(answer), err=to == STDOUT)
    else:
        typer.echo(f"{done.entries} entries exported, {removed} trimmed", err=True)


@app.command("adjust")
def adjust_command(
    *,
    task: Annotated[str, typer.Option(help="The task that was possibly charged.")],
    usd: Annotated[str, typer.Option(help="Dollars to add; -0.01 gives a cent back.")],
    render: Annotated[int, typer.Option(min=0, help="Which of its pictures, from 0 on.")] = 0,
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger.")],
    by: Annotated[str, typer.Option(help="Who; default: the user of this machine.")] = "",
    repeat: Annotated[
        str, typer.Option("--id", help="Of an adjustment whose answer was lost: never books twice.")
    ] = "",
    team: OneTeam = "",
    json_output: Json = False,
    config: Config = SETTINGS,
) -> None:
    """Correct what a possible charge counts as, in the budgets that still count it."""
    correction = Correction(repeat or _random_id(), _signed(usd), reason, by or _user())

    async def run(books: Books) -> Corrected:
        return await correct(books, await books.teams(team), task, correction, render=str(render))

    with _refusing():
        done = in_books(config, run)
    if json_output:
        answer = {"task": task, "id": correction.id, "entry": done.entry_id}
        typer.echo(json.dumps(answer | {"total_usd": format_usd(done.total_microusd)}))
    else:
        typer.echo(f"{task} now counts as ${format_usd(done.total_microusd)} ({done.entry_id})")


@app.command("top-up")
def top_up_command(
    *,
    team: Annotated[str, typer.Option(help="The team.")],
    budget: Annotated[str, typer.Option(help="The name of its prepaid budget (per total).")],
    usd: Annotated[str, typer.Option(help="Dollars to pay in; -20 takes 20 dollars back.")],
    note: Annotated[str, typer.Option(help="Why; it stands in the ledger and the audit.")],
    key: Annotated[str, typer.Option(help="The key whose budget it is; default: the team's.")] = "",
    by: Annotated[str, typer.Option(help="Who; default: the user of this machine.")] = "",
    repeat: Annotated[
        str, typer.Option("--id", help="Of a top-up whose answer was lost: never books twice.")
    ] = "",
    json_output: Json = False,
    config: Config = SETTINGS,
) -> None:
    """Pay into a prepaid budget; running gateways count it at once."""
    payment = Payment(
        team=team,
        key=key,
        budget=budget,
        delta_microusd=_signed(usd),
        note=note,
        who=by or _user(),
        id=repeat or _random_id(),
    )

    async def run(books: Books) -> Paid:
        try:
            return await books.budgets.pay(payment)
        except StoreUnavailable:
            raise _maybe_booked(payment.id) from None

    with _refusing():
        paid = in_books(config, run)
    if json_output:
        answer = {"id": paid.id, "entry": paid.entry_id, "budget": standing_fields(paid.standing)}
        typer.echo(json.dumps(answer))
    else:
        state = paid.standing.state
        typer.echo(
            f"The budget '{state.name}' is now ${format_usd(state.limit_microusd)}"
            f" (${format_usd(state.topped_up_microusd)} of it topped up),"
            f" ${format_usd(state.remaining_microusd)} is left ({paid.entry_id})"
        )


async def correct(
    books: Books,
    teams: Sequence[TeamId],
    task: str,
    correction: Correction,
    *,
    render: str = "0",
) -> Corrected:
    """Find a render's possible charge among these teams and book a correction of it.

    Raises NotCorrectedError for a task without one, and for what would leave less than nothing.
    """
    for team in teams:
        end = await books.redis.end_of(team, task, render=render)
        if end is not None:
            return await _correct(books, team, parse_entry(end), correction)
    raise NotCorrectedError(f"the ledger has no entry of {task}: it is unknown, or was trimmed.")


async def _correct(books: Books, team: TeamId, end: Entry, correction: Correction) -> Corrected:
    if end.verb is not Verb.POSSIBLE_CHARGE:
        raise NotCorrectedError(
            f"{end.task} has no possible charge: the last that happened to it is a {end.verb}."
        )
    try:
        return await books.redis.adjust(team, end, correction)
    except BelowZeroError as error:
        raise NotCorrectedError(
            f"{end.task} counts as ${format_usd(error.total_microusd)}: no more can be given back."
        ) from None
    except StoreUnavailable:
        raise _maybe_booked(correction.id) from None


def _maybe_booked(operation: str) -> NotCorrectedError:
    return NotCorrectedError(
        "the store did not answer in time, so it may be booked or not. Repeat the command with"
        f" --id {operation}: it is never booked twice."
    )


def _signed(usd: str) -> int:
    """Return the micro-dollars of a `--usd`; BadParameter when it is no amount."""
    try:
        return parse_signed_microusd(usd)
    except ValueError as error:
        raise typer.BadParameter(f"--usd: {error}") from None


def _audit_lines(audits: Sequence[Audit]) -> Iterator[str]:
    for audit in audits:
        for finding in audit.findings:
            yield f"{audit.team}: {finding}"
        if not audit.findings:
            counts = f"{audit.entries} entries, {audit.windows} windows, {audit.days} days"
            yield f"{audit.team}: ok ({counts})"


@contextmanager
def _refusing() -> Iterator[None]:
    """Tell what is wrong with the books themselves, or with where they go."""
    try:
        yield
    except CheckpointMovedError:
        refuse(_MOVED)
    except (*_UNUSABLE, ExportFailedError, NotCorrectedError, AdminRefusedError) as error:
        refuse(str(error))


@contextmanager
def progress_on(console: Console) -> Iterator[Tell]:
    """Show a bar while the block runs, when the console is a terminal."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)

        def tell(name: str, done: int, total: int) -> None:
            progress.update(bar, description=name, completed=done, total=total)

        yield tell


def _random_id() -> str:
    return secrets.token_hex(_ID_BYTES)


def _user() -> str:
    # A container may run as a user id that has no name.
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return "unknown"
