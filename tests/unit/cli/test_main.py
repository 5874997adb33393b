from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway import __version__
from gateway.cli.main import app, command_line
from tests.support.commands import commands

runner = CliRunner()


def test_version_is_printed() -> None:
    """The version is one line."""
    done = runner.invoke(app, ["--version"])

    assert (0, f"gateway {__version__}\n") == (done.exit_code, done.stdout)


def test_help_names_every_command() -> None:
    """A newcomer sees what there is."""
    done = runner.invoke(app, ["--help"])

    assert 0 == done.exit_code
    assert all(name in done.stdout for name in ("demo", "serve", "simulate", "check"))


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=str)
def test_help_is_whole(path: list[str], command: Any) -> None:
    """Nothing of a help text is taken for markup, where it would vanish."""
    shown = runner.invoke(app, [*path, "--help"], env={"COLUMNS": "400"}).stdout
    texts = [option.help for option in command.params if option.help]

    assert texts
    assert all(text.replace("\\[", "[") in shown for text in texts)


@pytest.mark.parametrize("wanted", ["check", "keys"])
def test_one_command_is_made_without_the_others(wanted: str) -> None:
    """What a process was not asked for is not imported."""
    line: Any = typer.main.get_command(command_line(wanted))

    assert [wanted] == list(line.commands)


def test_unknown_commands_are_a_usage_error() -> None:
    """Exit code 2 is for calls that are not understood."""
    assert 2 == runner.invoke(app, ["bogus"]).exit_code
