from typing import Any

import pytest

from gateway.simulator.params import Choice, Flag, Number, ParamRule, Text, Tools, find


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (Flag(), [True, False], [1, "true"]),
        (Number(1, 5), [1, 5], [0, 6, 1.0, True, "1"]),
        (Text(3), ["", "abc"], ["abcd", 7]),
        (Choice(("a", "b")), ["a"], ["c", "", 1, []]),
        (
            Tools("web_search"),
            [[], [{"type": "web_search"}]],
            [{}, [{"type": "x"}], ["web_search"]],
        ),
    ],
)
def test_rules(rule: ParamRule, good: list[Any], bad: list[Any]) -> None:
    """A rule says what is wrong, or nothing."""
    assert {""} == {rule.refusal(value) for value in good}
    assert all(rule.refusal(value).startswith("must be") for value in bad)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 7), ("model_params.tools", [1]), ("model_params.none", None), ("seed.x", None)],
)
def test_find(name: str, value: object) -> None:
    """A dot leads into an object; everything that is not there is absent."""
    assert value == find({"seed": 7, "model_params": {"tools": [1]}}, name)
