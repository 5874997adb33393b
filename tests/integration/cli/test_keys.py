from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app

pytestmark = pytest.mark.usefixtures("emptied")


def run(config: Path, *arguments: str) -> Result:
    """Run a command about keys."""
    return CliRunner().invoke(app, ["keys", *arguments, "--config", str(config)])


def test_a_key_is_shown_once_and_listed_without_its_secret(config: Path) -> None:
    """The key is alone on stdout, so that a script can take it; the list shows its beginning."""
    made = run(config, "create", "--team", "design", "--name", "web", "--budget", "5/day")
    secret = made.stdout.strip()
    listed = run(config, "list", "--team", "design", "--json")
    plain = run(config, "list", "--team", "design")

    assert 0 == made.exit_code
    assert secret.startswith("gw-design-")
    assert "shown this once" in made.stderr
    told = json.loads(listed.stdout)["web"]
    assert ("active", [{"usd": "5.00", "per": "day"}]) == (told["state"], told["budgets"])
    assert secret not in listed.stdout + plain.stdout
    assert plain.stdout.startswith("web\tactive\tgw-design-")


def test_keys_that_are_not_listed_are_told_of(config: Path, tmp_path: Path) -> None:
    """Those of the settings file are changed there; who has none at all is told so."""
    key = '\n[[teams.design.keys]]\nname = "ci"\nenv = "DESIGN_CI_KEY"\n'
    config.write_text(config.read_text() + key)
    (tmp_path / "team.toml").write_text("")
    set_options = ("set", "growth", "--from", str(tmp_path / "team.toml"), "--config", str(config))
    CliRunner().invoke(app, ["teams", *set_options])
    of_file, of_none = (run(config, "list", "--team", team) for team in ("design", "growth"))

    assert ("", "In the settings file: ci.\n") == (of_file.stdout, of_file.stderr)
    assert ("", "The team 'growth' has no keys.\n") == (of_none.stdout, of_none.stderr)


def test_a_key_is_rotated_and_revoked(config: Path) -> None:
    """Another secret under the same name, and then none."""
    first = run(config, "create", "--team", "design", "--json", "--expires", "30d")
    second = run(config, "rotate", "--team", "design", "--name", "default", "--json")
    revoked = run(config, "revoke", "--team", "design", "--name", "default", "--json")
    listed = json.loads(run(config, "list", "--team", "design", "--json").stdout)

    assert [0, 0, 0] == [done.exit_code for done in (first, second, revoked)]
    assert json.loads(first.stdout)["key"] != json.loads(second.stdout)["key"]
    assert {"team": "design", "name": "default", "state": "revoked"} == json.loads(revoked.stdout)
    assert "revoked" == listed["default"]["state"]
    assert 1 == len(listed["default"]["former"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "--team", "nowhere"), 1, "no team 'nowhere'"),
        (("create", "--team", "design", "--budget", "5/fortnight"), 1, "budgets[0].per"),
        (("create", "--team", "design", "--budget", "much/day"), 2, "such as 5/day"),
        (("create", "--team", "design", "--expires", "soon"), 2, "expected"),
        (("revoke", "--team", "design", "--name", "nope"), 1, "no key 'nope'"),
        (("create",), 2, "--team"),
    ],
)
def test_refusals_have_a_reason_and_an_exit_code(
    config: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """1 for what is refused, 2 for what is not understood."""
    done = run(config, *arguments)

    assert code == done.exit_code
    assert words in done.stderr
