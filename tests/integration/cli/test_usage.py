from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from gateway.cli import ledger
from gateway.cli.usage import usage
from tests.support.clock import NOON_MS
from tests.support.ledger import WriteBooks, a_hold, an_end

DAYS = ("--since", "2026-11-22", "--until", "2026-11-23")
HEADER = (
    "images,cost_usd,possible_usd,adjusted_usd,image_output_usd,text_input_usd,image_output_tokens"
)


@pytest.fixture
def books(write_books: WriteBooks) -> None:
    """Two pictures on one day, and a possible charge the day before."""
    write_books(
        a_hold("t1", 50_000),
        an_end(
            "settle",
            "t1",
            hold=50_000,
            cost=11_801,
            categories={"image_output": 11_800, "text_input": 1},
            tokens={"image_output": 272},
            created_ms=NOON_MS,
        ),
        a_hold("t2", 50_000),
        an_end("settle", "t2", hold=50_000, cost=8_200, created_ms=NOON_MS),
        a_hold("t3", 50_000),
        an_end("possible_charge", "t3", hold=50_000, cost=50_000, created_ms=NOON_MS - 86_400_000),
    )


def _run(config: Path, *arguments: str) -> Result:
    app = typer.Typer()
    app.command()(usage)
    return CliRunner().invoke(app, ["--config", str(config), *arguments])


def test_csv(config: Path, books: None) -> None:
    """Every category that occurs has a column; money is decimal dollars."""
    done = _run(config, *DAYS, "--by", "day", "--format", "csv")

    assert (0, "") == (done.exit_code, done.stderr)
    assert [
        f"day,{HEADER}",
        "2026-11-22,0,0.05,0.05,0.00,0.05,0.00,0",
        "2026-11-23,2,0.020001,0.00,0.00,0.02,0.000001,272",
    ] == done.stdout.splitlines()


@pytest.mark.parametrize("asked", [("--format", "json"), ("--json",)])
def test_json(config: Path, books: None, asked: tuple[str, ...]) -> None:
    """The same for programs, with exact integers, and everything in one sum."""
    done = _run(config, *DAYS, "--by", "model", *asked)
    answer = json.loads(done.stdout)

    assert ("2026-11-22", "2026-11-23", "model") == (
        *(answer["since"], answer["until"]),
        answer["by"],
    )
    assert {"usd": "0.070001", "microusd": 70_001} == answer["total"]["cost"]
    assert [("gpt-image-1.5", 2)] == [(row["name"], row["images"]) for row in answer["groups"]]


def test_a_table(config: Path, books: None) -> None:
    """For people: the days, the groups, and a total below them."""
    done = _run(config, *DAYS, "--by", "key")
    lines = [line.split() for line in done.stdout.splitlines()]

    assert ["2026-11-22", "to", "2026-11-23"] == lines[0]
    assert ["design/ci", "2", "0.070001", "0.05", "0.00"] in lines
    assert ["total", "2", "0.070001", "0.05", "0.00"] == lines[-1]


def test_one_team(config: Path, books: None) -> None:
    """Of another team nothing is told, and one that there is not is refused."""
    config.write_text(config.read_text() + "[teams.search]\n")
    search = _run(config, *DAYS, "--team", "search", "--format", "csv")
    unknown = _run(config, *DAYS, "--team", "desing")
    design = _run(config, *DAYS, "--team", "design", "--format", "csv")

    assert ["team,images,cost_usd,possible_usd,adjusted_usd"] == search.stdout.splitlines()
    assert "design,2,0.070001,0.05,0.00,0.07,0.000001,272" == design.stdout.splitlines()[1]
    assert (1, "") == (unknown.exit_code, unknown.stdout)


def test_days_that_make_no_sense(config: Path) -> None:
    """Are a mistake of the call, which has exit code 2."""
    done = _run(config, "--since", "yesterday")

    assert 2 == done.exit_code
    assert "2026-11-23" in done.stderr


def test_by_end_user(config: Path, write_books: WriteBooks) -> None:
    """Hashes, told apart by team; what was trimmed is warned of."""
    end = an_end("settle", "t1", hold=50, cost=30, windows=[])
    write_books({**a_hold("t1", 50, []), "user": "u1"}, {**end, "user": "u1"})
    whole = _run(config, "--by", "user", "--format", "csv")
    CliRunner().invoke(
        ledger.app,
        ["export", "--trim", "--to", str(config.parent / "x.csv"), "--config", str(config)],
    )
    left = _run(config, "--by", "user", "--json")

    assert "design/u1,1,0.00003,0.00,0.00,0.00003" == whole.stdout.splitlines()[1]
    assert "" == whole.stderr
    assert ([], True) == (json.loads(left.stdout)["groups"], "were trimmed" in left.stderr)
    assert json.loads(left.stdout)["complete_from"] > "2026-01-01"
