"""The `gateway` command: its subcommands in one list.

A process is asked for one of them, and imports no other: `gateway check` is there in a third of the
time that all of them take.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Annotated

import typer

from gateway import __version__
from gateway.telemetry.log import configure_logging

#: Each by its name: the module of this package that has it, and its function there.
_COMMANDS = {
    "demo": ("demo", "demo"),
    "serve": ("serve", "serve"),
    "worker": ("worker", "worker"),
    "simulate": ("simulate", "simulate"),
    "check": ("check", "check"),
    "reload": ("reload", "reload"),
    "quote": ("quote", "quote"),
    "usage": ("usage", "usage"),
    "purge": ("purge", "purge"),
    "backup": ("backup", "backup"),
    "restore": ("backup", "restore"),
    "migrate": ("migrate", "migrate_command"),
}
#: Those that have subcommands themselves, each in the module of its name.
_GROUPS = ("keys", "teams", "tasks", "ledger")
#: Started by `serve`, and shown to nobody.
_HIDDEN = ("worker",)


def command_line(wanted: str = "") -> typer.Typer:
    """Return the command line, with one command of it where that is `wanted`, else with all."""
    line = typer.Typer(
        name="gateway",
        help="An image gateway: OpenAI's Images API in front, image tasks behind.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",  # a paragraph is one, however its lines are broken here
        pretty_exceptions_enable=False,
    )
    line.callback()(_options)
    known = wanted in _COMMANDS or wanted in _GROUPS
    for name, (module, function) in _COMMANDS.items():
        if not known or name == wanted:
            command = getattr(import_module(f"gateway.cli.{module}"), function)
            line.command(name, hidden=name in _HIDDEN)(command)
    for name in _GROUPS:
        if not known or name == wanted:
            line.add_typer(import_module(f"gateway.cli.{name}").app, name=name)
    return line


def __getattr__(name: str) -> typer.Typer:
    """Return the whole command line as `app`, made when it is asked for."""
    if name != "app":
        raise AttributeError(name)
    return command_line()


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it with the flag
    if asked:
        typer.echo(f"gateway {__version__}")
        raise typer.Exit


def _options(
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
    command_line(sys.argv[1] if len(sys.argv) > 1 else "")()
