"""``gateway check``: every mistake of a settings file, found by the loader the server uses."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gateway.config.json_schema import file_schema
from gateway.config.load import load, process_environ
from gateway.config.problems import ConfigError, Problem


def check(
    config: Annotated[Path, typer.Argument(help="The settings file.")] = Path("config.toml"),
    *,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of problems and warnings.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of such files, for editors.")
    ] = False,
) -> None:
    """Tell every mistake of a settings file; exit with 1 when there is one.

    A secret that is not on this machine is a warning: the file may be checked elsewhere.
    """
    if schema:
        typer.echo(json.dumps(file_schema(), indent=2))
        return
    try:
        errors: Sequence[Problem] = ()
        warnings = load(config, process_environ()).missing_secrets
    except ConfigError as error:
        errors, warnings = error.problems, ()
    if json_output:
        typer.echo(json.dumps([*_rows("error", errors), *_rows("warning", warnings)], indent=2))
    else:
        _print(config, errors, warnings)
    if errors:
        raise typer.Exit(1)


def _print(config: Path, errors: Sequence[Problem], warnings: Sequence[Problem]) -> None:
    for problem in errors:
        typer.echo(str(problem), err=True)
    for problem in warnings:
        typer.echo(f"warning: {problem}", err=True)
    if not errors:
        typer.echo(f"{config}: ok")


def _rows(severity: str, problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [
        {"severity": severity, "path": problem.path, "message": problem.message}
        for problem in problems
    ]
