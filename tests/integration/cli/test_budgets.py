from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.cli.usage import usage
from tests.support.ledger import TOTAL_WINDOW, WriteBooks, a_hold, a_top_up, an_end


@pytest.fixture
def prepaid(config: Path, write_books: WriteBooks) -> Path:
    """A prepaid budget that was topped up and spent from, and a key's by the day."""
    with config.open("a", encoding="utf-8") as file:
        file.write(
            'budgets = [{ usd = 10, per = "total", name = "prepaid" }]\n'
            "[[teams.design.keys]]\nname = 'ci'\nenv = 'CI_KEY'\n"
            'budgets = [{ usd = 1, per = "day" }]\n[teams.ops]\n'
        )
    write_books(
        a_top_up(2_500_000),
        a_hold("t1", 50_000, [TOTAL_WINDOW]),
        an_end("settle", "t1", hold=50_000, cost=30_000, windows=[TOTAL_WINDOW]),
        a_hold("t2", 50_000, [TOTAL_WINDOW]),
    )
    return config


def _run(config: Path, *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(usage)
    return CliRunner().invoke(app, ["--config", str(config), "--budgets", *arguments])


def test_csv(prepaid: Path) -> None:
    """Limits hold what was topped up; money is decimal dollars."""
    header, total, day = _run(prepaid, "--format", "csv").stdout.splitlines()

    assert (
        "team,key,budget,per,limit_usd,topped_up_usd,spent_usd,held_usd,remaining_usd,resets_at"
    ) == header
    assert "design,,prepaid,total,12.50,2.50,0.03,0.05,12.42," == total
    assert day.startswith("design,ci,day,day,1.00,0.00,0.00,0.00,1.00,2")


@pytest.mark.parametrize("asked", [("--format", "json"), ("--json",)])
def test_json(prepaid: Path, asked: tuple[str, ...]) -> None:
    """The same for programs, with exact integers."""
    total, day = json.loads(_run(prepaid, *asked).stdout)

    assert ("design", "", 12_500_000, 2_500_000, None) == (
        *(total["team"], total["owner"], total["limit"]["microusd"]),
        *(total["topped_up"]["microusd"], total["resets_at"]),
    )
    assert ("ci", "key") == (day["owner"], day["scope"])


def test_a_table(prepaid: Path) -> None:
    """For people."""
    lines = [line.split() for line in _run(prepaid).stdout.splitlines()]

    assert ["design", "prepaid", "total", "12.50", "2.50", "0.03", "0.05", "12.42"] in lines


def test_one_team(prepaid: Path) -> None:
    """Of others nothing is told; one that there is not is refused."""
    ops, nowhere = (_run(prepaid, "--team", name, "--json") for name in ("ops", "nowhere"))

    assert (0, []) == (ops.exit_code, json.loads(ops.stdout))
    assert (1, "gateway: There is no team 'nowhere'.\n") == (nowhere.exit_code, nowhere.stderr)
