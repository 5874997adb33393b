"""The `gateway` command: its subcommands in one list."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from gateway import __version__
from gateway.cli import keys, ledger, tasks, teams
from gateway.cli.backup import backup, restore
from gateway.cli.check import check
from gateway.cli.demo import demo
from gateway.cli.migrate import migrate_command
from gateway.cli.purge import purge
from gateway.cli.quote import quote
from gateway.cli.reload import reload
from gateway.cli.serve import serve
from gateway.cli.simulate import simulate
from gateway.cli.usage import usage
from gateway.cli.worker import worker
from gateway.telemetry.log import configure_logging

app = typer.Typer(
    name="gateway",
    help="An image gateway: OpenAI's Images API in front, image tasks behind.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # a paragraph is one, however its lines are broken here
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(serve)
app.command(hidden=True)(worker)
app.command()(simulate)
app.command()(check)
app.command()(reload)
app.command()(quote)
app.command()(usage)
app.command()(purge)
app.command()(backup)
app.command()(restore)
app.command("migrate")(migrate_command)
app.add_typer(keys.app, name="keys")
app.add_typer(teams.app, name="teams")
app.add_typer(tasks.app, name="tasks")
app.add_typer(ledger.app, name="ledger")


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it with the flag
    if asked:
        typer.echo(f"gateway {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: FBT002 - a flag is what it is
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take what comes before the subcommand."""


def main() -> None:
    """Run the command line. What commands print is theirs: only warnings are logged, to stderr.

    Those that serve log as servers do.
    """
    configure_logging(level=logging.WARNING)
    app()
