from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.simulator.replies import Manner
from gateway.simulator.rules import Rule, RulesError, Stage, load_rules, read_rules
from gateway.simulator.script import Ending, Script

PLAY = "[[html]]"


def playing(rule: Rule, count: int = 10) -> list[int]:
    """Return the numbers of the requests that a rule plays for."""
    random = Random(1)
    return [number for number in range(1, count + 1) if rule.applies(number, random)]


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        (Rule("submit", PLAY), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (Rule("submit", PLAY, nth=frozenset({2, 7})), [2, 7]),
        (Rule("submit", PLAY, every=4), [4, 8]),
        (Rule("submit", PLAY, first=3), [1, 2, 3]),
        (Rule("submit", PLAY, probability=0.0), []),
        (Rule("submit", PLAY, probability=1.0), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_when_a_rule_plays(rule: Rule, numbers: Sequence[int]) -> None:
    """Requests are counted from one."""
    assert numbers == playing(rule)


def test_probability() -> None:
    """About a share of many requests meets the fault."""
    assert 150 < len(playing(Rule("submit", PLAY, probability=0.2), 1000)) < 250


def test_files(tmp_path: Path) -> None:
    """TOML and JSON say the same."""
    toml, json = tmp_path / "faults.toml", tmp_path / "faults.json"
    toml.write_text(
        '[[rules]]\nroute = "submit"\nplay = "[[html]]"\nnth = [2, 5]\n'
        '[[rules]]\nroute = "poll"\nplay = "[[poll:empty]]"\nprobability = 0.5\n'
    )
    json.write_text(
        '{"rules": [{"route": "submit", "play": "[[html]]", "nth": [2, 5]},'
        ' {"route": "poll", "play": "[[poll:empty]]", "probability": 0.5}]}'
    )

    assert (
        (
            Rule("submit", "[[html]]", nth=frozenset({2, 5})),
            Rule("poll", "[[poll:empty]]", probability=0.5),
        )
        == load_rules(toml)
        == load_rules(json)
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "list of rules"),
        ({}, "list of rules"),
        ({"rules": {}}, "list of rules"),
        ({"rules": [], "seed": 1}, "list of rules"),
        ({"rules": [7]}, r"rules\[0\] is not a table"),
        ({"rules": [{"route": "pool", "play": PLAY}]}, r"rules\[0\].route must be one of submit"),
        ({"rules": [{"route": "submit"}]}, r"rules\[0\].play"),
        ({"rules": [{"route": "submit", "play": "[[fail:x]]"}]}, r"rules\[0\].play: .*knows"),
        ({"rules": [{"route": "poll", "play": PLAY}]}, "cannot play"),
        ({"rules": [{"route": "submit", "play": PLAY, "nht": [1]}]}, "nht is unknown"),
        (
            {"rules": [{"route": "submit", "play": PLAY, "nth": [1], "every": 2}]},
            "both nth and every",
        ),
        ({"rules": [{"route": "submit", "play": PLAY, "nth": []}]}, "nth must be a list"),
        ({"rules": [{"route": "submit", "play": PLAY, "nth": [0]}]}, "whole number"),
        ({"rules": [{"route": "submit", "play": PLAY, "every": True}]}, "whole number"),
        ({"rules": [{"route": "submit", "play": PLAY, "first": 1.5}]}, "whole number"),
        ({"rules": [{"route": "submit", "play": PLAY, "probability": 1.5}]}, "from 0 to 1"),
    ],
)
def test_odd_rules(body: Any, message: str) -> None:
    """A mistake is named before anything starts."""
    with pytest.raises(RulesError, match=message):
        read_rules(body)


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", "= ="), ("a.json", "{"), ("none.toml", None)]
)
def test_odd_files(tmp_path: Path, name: str, text: str | None) -> None:
    """A file that cannot be read is named."""
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(RulesError, match=name):
        load_rules(tmp_path / name)


def test_later_rules_and_markers_win() -> None:
    """Rules add up in the order of the file, then the prompt."""
    stage = Stage(
        [
            Rule("submit", "[[latency:1]][[label:a]][[fail:service_error]]"),
            Rule("submit", "[[latency:2]]"),
        ],
        seed=1,
    )

    assert (
        Script(latency_s=2.0, label="b", ending=Ending.FAILED, failure="service_error"),
        "a fox",
    ) == stage.submit("a fox [[label:b]]")


def test_routes_are_counted_apart() -> None:
    """The second poll is not the second request."""
    stage = Stage([Rule("poll", "[[poll:empty]]", nth=frozenset({2}))], seed=1)
    replies = [stage.next(route).other for route in ("poll", "list", "poll", "poll")]

    assert [None, None, Manner.EMPTY, None] == [reply and reply.manner for reply in replies]


def test_seed_repeats_the_chances() -> None:
    """With a seed a reset meets the same faults again."""
    stage = Stage([Rule("poll", "[[poll:empty]]", probability=0.5)], seed=3)
    first = [stage.next("poll") for _ in range(50)]
    stage.reset()

    assert first == [stage.next("poll") for _ in range(50)]
    assert 2 == len(set(first))
