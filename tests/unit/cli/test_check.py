from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.cli.check import check

RIGHT = """
[[teams.design.keys]]
name = "ci"
env = "DESIGN_CI_KEY"
"""

WRONG = """
[server]
prot = 8080

[teams.design]
budgets = [{ usd = 5, per = "fortnight" }]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a settings file by the usual name in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DESIGN_CI_KEY", raising=False)
    path = Path("config.toml")
    path.write_text(RIGHT, encoding="utf-8")
    return path


def _run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(check)
    return CliRunner().invoke(app, arguments)


def test_a_file_that_is_right_is_ok(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, nothing to complain of, exit code 0; the usual name needs not be given."""
    monkeypatch.setenv("DESIGN_CI_KEY", "k" * 16)
    result = _run()

    assert (result.exit_code, result.stdout, result.stderr) == (0, "config.toml: ok\n", "")


def test_a_missing_secret_is_a_warning(config: Path) -> None:
    """The file is right, wherever it is checked."""
    result = _run("config.toml")

    assert (result.exit_code, result.stdout) == (0, "config.toml: ok\n")
    assert (
        result.stderr
        == "warning: teams.design.keys[0].env: DESIGN_CI_KEY is not set in the environment\n"
    )


def test_every_mistake_is_a_line(config: Path) -> None:
    """On standard error, with exit code 1."""
    config.write_text(WRONG, encoding="utf-8")
    result = _run()

    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr == "server.prot: unknown setting; did you mean port?\n"
        "teams.design.budgets[0].per: expected minute, hour, day, week, month or total, "
        'got "fortnight"\n'
    )


def test_a_file_that_is_not_there_is_a_mistake(config: Path) -> None:
    """It is said which file was looked for."""
    result = _run("other.toml")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "other.toml: cannot be read: No such file or directory\n"


def test_json_lists_mistakes(config: Path) -> None:
    """For programs: the same problems on standard output, the same exit code."""
    config.write_text(WRONG, encoding="utf-8")
    result = _run("--json")

    assert (result.exit_code, result.stderr) == (1, "")
    assert [(row["severity"], row["path"]) for row in json.loads(result.stdout)] == [
        ("error", "server.prot"),
        ("error", "teams.design.budgets[0].per"),
    ]


def test_json_lists_warnings(config: Path) -> None:
    """A warning says that it is one, and leaves the exit code alone."""
    result = _run("--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {
            "severity": "warning",
            "path": "teams.design.keys[0].env",
            "message": "DESIGN_CI_KEY is not set in the environment",
        }
    ]


def test_json_of_a_file_that_is_right_is_an_empty_list(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs need not treat it apart."""
    monkeypatch.setenv("DESIGN_CI_KEY", "k" * 16)

    assert json.loads(_run("--json").stdout) == []


def test_an_unknown_option_is_a_usage_error(config: Path) -> None:
    """Exit code 2 is kept for how the command was called."""
    assert _run("--colour").exit_code == 2


def test_the_schema_is_the_one_that_is_shipped() -> None:
    """`gateway check --schema > docs/config.schema.json` changes nothing."""
    shipped = Path(__file__).resolve().parents[3] / "docs" / "config.schema.json"
    result = _run("--schema")

    assert 0 == result.exit_code
    assert json.loads(shipped.read_text()) == json.loads(result.stdout)
