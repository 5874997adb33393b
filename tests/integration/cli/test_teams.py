from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app

pytestmark = pytest.mark.usefixtures("emptied")


def run(config: Path, *arguments: str) -> Result:
    """Run a command about teams."""
    return CliRunner().invoke(app, ["teams", *arguments, "--config", str(config)])


def test_a_team_is_made_shown_and_listed(config: Path, tmp_path: Path) -> None:
    """A table of TOML becomes a team; what comes back is what was written."""
    table = tmp_path / "ops.toml"
    table.write_text('models = ["gpt-image-*"]\nbudgets = [{ usd = 0.5, per = "day" }]\n')
    made = run(config, "set", "ops", "--from", str(table))
    again = run(config, "set", "ops", "--from", str(table), "--json")
    shown = run(config, "show", "ops", "--json")

    assert (0, "The team 'ops' is set.\n") == (made.exit_code, made.stdout)
    assert {"team": "ops"} == json.loads(again.stdout)
    assert shown.stdout == run(config, "show", "ops").stdout
    assert {
        "models": ["gpt-image-*"],
        "budgets": [{"usd": "0.50", "per": "day"}],
    } == json.loads(shown.stdout)
    assert "design\nops\n" == run(config, "list").stdout
    assert ["design", "ops"] == json.loads(run(config, "list", "--json").stdout)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("design", "", "settings file"),
        ("ops", "modles = []", "modles"),
        ("ops", "= broken", "is no toml"),
        ("Ops Team", "", "ops"),
    ],
)
def test_refusals_name_the_mistake(
    config: Path, tmp_path: Path, name: str, text: str, words: str
) -> None:
    """A team of the file, an unknown setting, broken TOML and a bad name are refused with 1."""
    table = tmp_path / "table.toml"
    table.write_text(text)
    done = run(config, "set", name, "--from", str(table))

    assert 1 == done.exit_code
    assert words in done.stderr.lower()


def test_an_unknown_team_is_told(config: Path) -> None:
    """Showing a team that does not exist is refused."""
    done = run(config, "show", "nowhere")

    assert 1 == done.exit_code
    assert "no team 'nowhere'" in done.stderr


def test_a_webhook_secret_is_shown_and_rotated(config: Path) -> None:
    """It stays the same until it is rotated; then it is another one."""
    first = run(config, "webhook-secret", "design")
    again = run(config, "webhook-secret", "design", "--json")
    rotated = run(config, "webhook-secret", "design", "--rotate", "--grace", "1h")
    after = run(config, "webhook-secret", "design")

    assert first.stdout.startswith("whsec_")
    assert {"team": "design", "secret": first.stdout.strip()} == json.loads(again.stdout)
    assert 0 == rotated.exit_code
    assert first.stdout != rotated.stdout == after.stdout


def test_webhook_secrets_of_nobody_and_odd_graces_are_refused(config: Path) -> None:
    """A team that does not exist has no secret, and none is made; a grace is a length of time."""
    unknown = run(config, "webhook-secret", "nowhere", "--rotate")
    odd = run(config, "webhook-secret", "design", "--rotate", "--grace", "soon")

    assert (1, 2) == (unknown.exit_code, odd.exit_code)
    assert "no team 'nowhere'" in unknown.stderr
