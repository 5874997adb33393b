from __future__ import annotations

from datetime import date

import pytest

from gateway.domain.ids import TeamId
from gateway.ledger.entries import parse_entry
from gateway.ledger.rollups import (
    Grouping,
    Line,
    Spend,
    SumKey,
    add_up,
    days_between,
    group,
    parse_sums,
    sums_of,
)
from tests.support.ledger import a_hold, a_top_up, an_adjustment, an_end, an_opening, raw

ID = "1795435200000-0"
MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)


def _sum(measure: str, *, key: str = "ci", model: str = "gpt-image-1.5") -> SumKey:
    return SumKey(key, model, "evolink", measure)


def _line(
    measure: str, value: int, *, team: str = "design", day: date = MONDAY, key: str = "ci"
) -> Line:
    return Line(TeamId(team), day, _sum(measure, key=key), value)


def test_fields_are_json_lists() -> None:
    """A name with any character in it comes back as it was."""
    odd = SumKey('a"b', "x,y", "é", "cost:image_output")

    assert {odd: -3} == parse_sums({odd.field(): "-3"})
    assert '["ci","gpt-image-1.5","evolink","cost"]' == _sum("cost").field()


@pytest.mark.parametrize("field", ['["ci","cost"]', '"cost"', "{}"])
def test_fields_of_another_form_are_refused(field: str) -> None:
    """Sums that nobody can place are not added up."""
    with pytest.raises(ValueError, match="is not"):
        parse_sums({field: "1"})


@pytest.mark.parametrize(
    ("measure", "known"),
    [
        *(("cost", True), ("cost:new", True), ("tokens:new", True), ("images", True)),
        *(("possible", True), ("adjusted", True), ("costs", False), ("mood", False)),
    ],
)
def test_measures_of_a_newer_version_are_told_apart(measure: str, known: bool) -> None:
    """Readers pass over what they cannot mean."""
    assert known is _sum(measure).known


@pytest.mark.parametrize(
    ("fields", "sums"),
    [
        (
            an_end(
                "settle",
                "t1",
                hold=50,
                cost=30,
                categories={"image_output": 25, "text_input": 5, "thinking": 0},
                tokens={"image_output": 272},
            ),
            {
                "cost": 30,
                "images": 1,
                "cost:image_output": 25,
                "cost:text_input": 5,
                "tokens:image_output": 272,
            },
        ),
        (
            an_end("possible_charge", "t1", hold=50, cost=50),
            {"cost": 50, "possible": 50, "cost:image_output": 50},
        ),
        (an_adjustment("t1", -20), {"cost": -20, "adjusted": -20}),
        (an_end("release", "t1", hold=50), {}),
        (an_end("release", "t1", hold=50) | {"images": "1"}, {"images": 1}),
        (a_hold("t1", 50), {}),
        (a_top_up(5), {}),
        (an_opening("w:1", 5), {}),
    ],
)
def test_what_an_entry_adds(fields: dict[str, str], sums: dict[str, int]) -> None:
    """Money that was booked and pictures that were made, never what is zero."""
    entry = parse_entry(raw(fields, ID))

    assert {_sum(measure): value for measure, value in sums.items()} == sums_of(entry)


def test_days_between_includes_both_ends() -> None:
    """One day is a range, too."""
    assert [MONDAY, TUESDAY] == days_between(MONDAY, TUESDAY)
    assert [MONDAY] == days_between(MONDAY, MONDAY)


def test_add_up() -> None:
    """Every measure is one integer sum; categories and tokens are told by name."""
    lines = [
        *(_line("cost", 30), _line("cost", -10, day=TUESDAY), _line("images", 2)),
        *(_line("possible", 7), _line("adjusted", -10)),
        *(_line("cost:b", 25), _line("cost:a", 5), _line("cost:b", 1), _line("tokens:b", 272)),
        _line("mood", 1),
    ]

    assert Spend(
        images=2,
        cost_microusd=20,
        possible_microusd=7,
        adjusted_microusd=-10,
        categories_microusd={"a": 5, "b": 26},
        tokens={"b": 272},
    ) == add_up(lines)
    assert Spend() == add_up([])


@pytest.mark.parametrize(
    ("by", "costs"),
    [
        (Grouping.TEAM, {"design": 7, "search": 8}),
        (Grouping.KEY, {"design/ci": 5, "design/web": 2, "search/ci": 8}),
        (Grouping.MODEL, {"gpt-image-1.5": 15}),
        (Grouping.PROVIDER, {"evolink": 15}),
        (Grouping.DAY, {"2026-11-23": 7, "2026-11-24": 8}),
    ],
)
def test_group(by: Grouping, costs: dict[str, int]) -> None:
    """Groups are in the order of their names; keys of two teams are never one."""
    lines = [
        _line("cost", 8, team="search", day=TUESDAY),
        _line("cost", 2, key="web"),
        *(_line("cost", 1), _line("cost", 4)),
    ]
    groups = group(lines, by)

    assert list(costs.items()) == [(name, spend.cost_microusd) for name, spend in groups.items()]


def test_end_users_are_told_apart() -> None:
    """Those of two teams are never one; calls without one have a name, too."""
    lines = [
        _line("cost", 1)._replace(user="u1"),
        _line("cost", 2)._replace(user="u1"),
        _line("cost", 4, team="search")._replace(user="u1"),
        _line("cost", 8),
    ]

    assert {"design/(none)": 8, "design/u1": 3, "search/u1": 4} == {
        name: spend.cost_microusd for name, spend in group(lines, Grouping.USER).items()
    }
