from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from gateway.background import SystemClock
from gateway.cli.ledger import app, progress_on
from gateway.domain.ids import TaskId, TeamId
from gateway.domain.limits import Budget, Period
from gateway.ledger.organization import Organization
from gateway.store.client import Store
from tests.support.ledger import DAY_WINDOW, WriteBooks, a_hold, an_end, an_opening
from tests.support.valkey import ValkeyProcess

SETTLED = (a_hold("t1", 50_000), an_end("settle", "t1", hold=50_000, cost=30_000))
POSSIBLE = (a_hold("t2", 50_000), an_end("possible_charge", "t2", hold=50_000, cost=50_000))
WRONG = (a_hold("t3", 5), an_end("settle", "t3", hold=5, cost=3, categories={"a": 2}))


@pytest.fixture(autouse=True)
def books(write_books: WriteBooks) -> None:
    """Begin every test with one settled task and one that was possibly charged."""
    write_books(*SETTLED, *POSSIBLE)


def _run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(config)])


def test_verify(config: Path) -> None:
    """Books that agree are a line and exit code 0."""
    done = _run(config, "verify")

    assert (0, "design: ok (4 entries, 2 windows, 1 days)\n", "") == (
        *(done.exit_code, done.stdout),
        done.stderr,
    )


def test_verify_tells_every_difference(config: Path, write_books: WriteBooks) -> None:
    """A line for each, and exit code 1."""
    *_, wrong = write_books(*WRONG)
    done = _run(config, "verify", "--team", "design")

    assert 1 == done.exit_code
    assert [
        f"design: entry {wrong}: the categories add up to $0.000002, the cost is $0.000003"
    ] == done.stdout.splitlines()


def test_verify_looks_at_the_organization_too(config: Path, valkey_process: ValkeyProcess) -> None:
    """Its books have a line when there are any, unless one team was asked for."""

    async def hold() -> None:
        async with Store(valkey_process.url, timeout_ms=15_000) as store:
            clock = SystemClock()
            purse = Organization(store, clock, [Budget("ever", 100, Period.TOTAL)])
            await purse.reserve(TaskId("t1"), TeamId("design"), 5, clock.now_ms() + 10_000)

    asyncio.run(hold())
    everything, one_team = _run(config, "verify"), _run(config, "verify", "--team", "design")

    assert "(organization): ok (1 entries, 1 windows, 0 days)" == everything.stdout.splitlines()[-1]
    assert "organization" not in one_team.stdout


def test_verify_as_json(config: Path, write_books: WriteBooks) -> None:
    """The same for programs."""
    *_, wrong = write_books(*WRONG)
    done = _run(config, "verify", "--json")
    [audit] = json.loads(done.stdout)

    assert (1, "design", 6) == (done.exit_code, audit["team"], audit["entries"])
    assert [f"entry {wrong}"] == [finding["where"] for finding in audit["findings"]]


def test_export_to_a_file(config: Path, tmp_path: Path) -> None:
    """Every entry is a line; how many there were is told beside it."""
    path = tmp_path / "books.jsonl"
    done = _run(config, "export", "--format", "jsonl", "--to", str(path))

    assert (0, "", "4 entries exported, 0 trimmed\n") == (done.exit_code, done.stdout, done.stderr)
    assert ["hold", "settle", "hold", "possible_charge"] == [
        json.loads(line)["verb"] for line in path.read_text().splitlines()
    ]


def test_export_to_standard_output(config: Path) -> None:
    """Nothing else is written there, also when the result is asked for as JSON."""
    done = _run(config, "export", "--to", "-", "--json", "--since", "2000-01-01")

    assert {"exported": 4, "trimmed": 0} == json.loads(done.stderr)
    assert 5 == len(done.stdout.splitlines())


def test_export_of_other_days(config: Path, tmp_path: Path) -> None:
    """Days without entries are an empty export."""
    path = tmp_path / "books.jsonl"
    done = _run(
        config, "export", "--format", "jsonl", "--until", "2000-01-01", "--to", str(path), "--json"
    )

    assert ({"exported": 0, "trimmed": 0}, "") == (json.loads(done.stdout), path.read_text())


def test_export_and_trim(config: Path, tmp_path: Path) -> None:
    """What was exported goes, and the books still agree."""
    path = tmp_path / "books.csv"
    first = _run(config, "export", "--to", str(path), "--trim")
    second = _run(config, "export", "--to", "-")

    assert (0, "4 entries exported, 4 trimmed\n") == (first.exit_code, first.stderr)
    assert (5, 1) == (len(path.read_text().splitlines()), len(second.stdout.splitlines()))
    assert "design: ok (0 entries, 2 windows, 1 days)\n" == _run(config, "verify").stdout


def test_trim_tells_what_was_wrong(config: Path, tmp_path: Path, write_books: WriteBooks) -> None:
    """Nobody can look at these entries any more."""
    *_, wrong = write_books(*WRONG)
    done = _run(config, "export", "--to", str(tmp_path / "books.csv"), "--trim")

    assert 0 == done.exit_code
    assert f"warning: entry {wrong}: the categories add up to" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--to", "-"), ("--to", "books.csv", "--since", "2026-11-23")]
)
def test_trim_without_a_copy_of_everything(config: Path, arguments: tuple[str, ...]) -> None:
    """What goes must have been written to something that lasts."""
    done = _run(config, "export", "--trim", *arguments)

    assert 2 == done.exit_code
    assert "design: ok (4 entries" in _run(config, "verify").stdout


def test_an_export_that_fails_trims_nothing(config: Path, tmp_path: Path) -> None:
    """Exit code 1 and why; the ledger is whole."""
    done = _run(config, "export", "--to", str(tmp_path / "no" / "books.csv"), "--trim")

    assert 1 == done.exit_code
    assert done.stderr.endswith("No such file or directory\n")
    assert "design: ok (4 entries" in _run(config, "verify").stdout


def test_export_of_days_that_are_none(config: Path) -> None:
    """A mistake of the call."""
    assert 2 == _run(config, "export", "--to", "-", "--until", "soon").exit_code


def test_entries_of_a_newer_version_are_not_trimmed(
    config: Path, tmp_path: Path, write_books: WriteBooks
) -> None:
    """They are exported, and stay."""
    write_books(an_opening(DAY_WINDOW, 0) | {"verb": "open", "window": ""})
    path = tmp_path / "books.csv"
    done = _run(config, "export", "--to", str(path), "--trim")

    assert 1 == done.exit_code
    assert done.stderr.endswith("it has no window\n")
    assert 6 == len(path.read_text().splitlines())


def test_adjust(config: Path) -> None:
    """A possible charge gives back what the upstream did not bill."""
    done = _run(config, "adjust", "--task", "t2", "--usd", "-0.01", "--reason", "not billed")

    assert 0 == done.exit_code
    assert done.stdout.startswith("t2 now counts as $0.04 (")
    assert "design: ok (5 entries" in _run(config, "verify").stdout


def test_adjust_as_json_and_again(config: Path) -> None:
    """With the id it told, the same correction is booked once."""
    order = ("adjust", "--task", "t2", "--usd", "0.02", "--reason", "billed twice", "--json")
    first = json.loads(_run(config, *order, "--team", "design").stdout)
    again = json.loads(_run(config, *order, "--id", first["id"]).stdout)

    assert ("t2", "0.07") == (first["task"], first["total_usd"])
    assert first == again


def test_adjust_says_who_and_why(config: Path) -> None:
    """Both stand in the ledger."""
    order = ("adjust", "--task", "t2", "--usd", "-0.01", "--reason", "not billed")
    _run(config, *order, "--by", "kim")
    _run(config, *order)
    export = _run(config, "export", "--format", "jsonl", "--to", "-").stdout
    *_, first, second = (json.loads(line) for line in export.splitlines())

    assert ("not billed", "kim") == (first["reason"], first["by"])
    assert second["by"] not in ("", "kim")


@pytest.mark.parametrize(
    ("task", "usd", "why"),
    [
        ("t1", "-0.01", "t1 has no possible charge: the last that happened to it is a settle."),
        ("t2", "-0.06", "t2 counts as $0.05: no more can be given back."),
        ("t9", "-0.01", "the ledger has no entry of t9: it is unknown, or was trimmed."),
    ],
)
def test_adjustments_that_are_refused(config: Path, task: str, usd: str, why: str) -> None:
    """Exit code 1, why, and nothing is booked."""
    done = _run(config, "adjust", "--task", task, "--usd", usd, "--reason", "x")

    assert (1, "", f"gateway: {why}\n") == (done.exit_code, done.stdout, done.stderr)
    assert "design: ok (4 entries" in _run(config, "verify").stdout


@pytest.mark.parametrize("usd", ["0", "-0.00", "much", "-", "--1", "0.0000001"])
def test_amounts_that_make_no_sense(config: Path, usd: str) -> None:
    """A mistake of the call."""
    done = _run(config, "adjust", "--task", "t2", "--reason", "x", f"--usd={usd}")

    assert 2 == done.exit_code


@pytest.mark.parametrize(("terminal", "shown"), [(True, True), (False, False)])
def test_progress_is_for_terminals(terminal: bool, shown: bool) -> None:
    """A bar with the team's name; a log file gets none."""
    file = io.StringIO()
    with progress_on(Console(file=file, force_terminal=terminal)) as tell:
        tell("design", 1, 2)

    assert shown is ("design" in file.getvalue())


@pytest.fixture
def prepaid(config: Path) -> Path:
    """Give the team a prepaid budget, and a key one, too."""
    budget = 'budgets = [{ usd = 10, per = "total", name = "prepaid" }, { usd = 1, per = "day" }]'
    with config.open("a", encoding="utf-8") as file:
        file.write(f"{budget}\n[[teams.design.keys]]\nname = 'ci'\nenv = 'CI_KEY'\n{budget}\n")
    return config


TOP_UP = ("top-up", "--team", "design", "--budget", "prepaid", "--note", "invoice 17")


def test_top_up(prepaid: Path) -> None:
    """What is there afterwards is told, and the books agree."""
    first = _run(prepaid, *TOP_UP, "--usd", "2.5")
    second = _run(prepaid, *TOP_UP, "--usd", "-0.5", "--key", "ci", "--by", "kim")
    back = _run(prepaid, *TOP_UP, "--usd", "-0.5", "--by", "kim")

    assert (0, 0, 1) == (first.exit_code, back.exit_code, second.exit_code)
    assert first.stdout.startswith(
        "The budget 'prepaid' is now $12.50 ($2.50 of it topped up), $12.50 is left ("
    )
    assert back.stdout.startswith("The budget 'prepaid' is now $12.00 ($2.00 of it topped up)")
    assert "design: ok (6 entries, 3 windows, 1 days)\n" == _run(prepaid, "verify").stdout


def test_top_up_as_json_and_again(prepaid: Path) -> None:
    """With the id it told, the same top-up is booked once; who and why stand in the ledger."""
    order = (*TOP_UP, "--usd", "2.5", "--key", "ci", "--by", "kim", "--json")
    first = json.loads(_run(prepaid, *order).stdout)
    again = json.loads(_run(prepaid, *order, "--id", first["id"]).stdout)
    export = _run(prepaid, "export", "--format", "jsonl", "--to", "-").stdout
    *_, entry = (json.loads(line) for line in export.splitlines())

    assert first == again
    assert ("ci", 12_500_000) == (first["budget"]["owner"], first["budget"]["limit"]["microusd"])
    assert ("top_up", 2_500_000, "invoice 17", "kim") == (
        *(entry["verb"], entry["delta_microusd"]),
        *(entry["reason"], entry["by"]),
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--usd", "-1"), "$0.00 was paid in; no more than that can be taken back"),
        (("--usd", "1", "--key", "web"), "The team 'design' has no key 'web'."),
        (("--usd", "1", "--team", "nowhere"), "There is no team 'nowhere'."),
        (("--usd", "1", "--budget", "day"), "only one that is a total can be paid into."),
    ],
)
def test_top_ups_that_are_refused(prepaid: Path, arguments: tuple[str, ...], why: str) -> None:
    """Exit code 1, why, and nothing is booked."""
    done = _run(prepaid, *TOP_UP, *arguments)

    assert (1, "") == (done.exit_code, done.stdout)
    assert why in done.stderr
    assert "design: ok (4 entries" in _run(prepaid, "verify").stdout


def test_a_top_up_of_nothing(prepaid: Path) -> None:
    """A mistake of the call."""
    assert 2 == _run(prepaid, *TOP_UP, "--usd", "0").exit_code


def test_a_top_up_that_may_be_booked(prepaid: Path, valkey_process: ValkeyProcess) -> None:
    """Nobody can know, so it is told how to repeat it safely."""
    text = prepaid.read_text(encoding="utf-8").replace("[redis]", '[redis]\ntimeout = "200ms"')
    prepaid.write_text(text, encoding="utf-8")
    valkey_process.stop()
    try:
        done = _run(prepaid, *TOP_UP, "--usd", "1", "--id", "op1")
    finally:
        valkey_process.cont()

    assert 1 == done.exit_code
    assert "--id op1: it is never booked twice." in done.stderr
