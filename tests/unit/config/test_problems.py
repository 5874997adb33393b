from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config.problems import (
    ConfigError,
    Place,
    Problem,
    did_you_mean,
    dotted,
    listed,
    problems_in,
)
from gateway.config.settings import Settings

KEY = "sk-evo-4f7a9c1b2d3e"


def _told(document: dict[str, object]) -> dict[str, str]:
    with pytest.raises(ValidationError) as refusal:
        Settings.model_validate(document)
    return {found.path: found.message for found in problems_in(refusal.value, Settings)}


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (("server", "port"), "server.port"),
        (("teams", "design", "budgets", 0, "per"), "teams.design.budgets[0].per"),
        (("models", "gpt-image-1.5", "routes", 2), 'models."gpt-image-1.5".routes[2]'),
        (("teams", 'a"\nb'), 'teams."a\\"\\nb"'),
    ],
)
def test_places_are_written_as_toml_writes_them(place: Place, expected: str) -> None:
    """Names with dots are quoted, so that the path can be found in the file."""
    assert expected == dotted(place)


def test_lists_read_like_a_sentence() -> None:
    """Commas, and one word before the last."""
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a or b"
    assert listed(["a", "b", "c"], last="and") == "a, b and c"


def test_a_near_name_is_suggested_and_otherwise_all_are_told() -> None:
    """A slip gets the name that was meant, a stranger gets the list."""
    assert did_you_mean("prot", ["host", "port"]) == "did you mean port?"
    assert did_you_mean("colour", ["port", "host"]) == "known here: host, port"
    assert did_you_mean("colour", []) == "there are none"


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        ({"server": {"port": "8080"}}, "server.port", "expected a whole number"),
        ({"server": {"port": True}}, "server.port", "expected a whole number"),
        ({"server": {"port": -1}}, "server.port", "expected 0 or more"),
        ({"server": {"port": 65536}}, "server.port", "expected 65535 or less"),
        ({"server": {"host": ""}}, "server.host", "expected some text"),
        ({"server": {"host": 1}}, "server.host", "expected text in quotes"),
        ({"redis": {"url": 1}}, "redis.url", "expected text in quotes"),
        ({"server": []}, "server", "expected a table"),
        ({"teams": []}, "teams", "expected a table"),
        ({"models": {"m": {"routes": "x"}}}, "models.m.routes", "expected a list in brackets"),
        ({"models": {"m": {"routes": []}}}, "models.m.routes", "expected at least one entry"),
        ({"models": {"m": {}}}, "models.m.routes", "this setting is required"),
        ({"providers": {"p": {"kind": "fal"}}}, "providers.p.kind", 'expected evolink, got "fal"'),
        (
            {"teams": {"a": {"budgets": [{"usd": 1, "per": "fortnight"}]}}},
            "teams.a.budgets[0].per",
            'expected minute, hour, day, week, month or total, got "fortnight"',
        ),
        (
            {"teams": {"a": {"budgets": [{"usd": 1, "per": 2}]}}},
            "teams.a.budgets[0].per",
            "expected minute, hour, day, week, month or total",
        ),
        (
            {"teams": {"A}": {}}},
            'teams."A}"',
            (
                "expected a name of at most 63 lower-case letters, digits, - and _, "
                "beginning with a letter or digit"
            ),
        ),
    ],
)
def test_mistakes_are_told_in_our_own_words(
    document: dict[str, object], path: str, message: str
) -> None:
    """Each kind of mistake says what was expected at its place."""
    assert {path: message} == _told(document)


@pytest.mark.parametrize(
    ("document", "path", "suggestion"),
    [
        ({"sever": {}}, "sever", "did you mean server?"),
        ({"server": {"prot": 1}}, "server.prot", "did you mean port?"),
        ({"server": {"wait_ms": 1}}, "server.wait_ms", "did you mean wait?"),
        ({"teams": {"a": {"bugdets": []}}}, "teams.a.bugdets", "did you mean budgets?"),
        (
            {"teams": {"a": {"keys": [{"name": "ci", "sha": ""}]}}},
            "teams.a.keys[0].sha",
            "did you mean sha256?",
        ),
        (
            {"teams": {"a": {"defaults": {"style": ""}}}},
            "teams.a.defaults.style",
            "known here: quality, size",
        ),
    ],
)
def test_unknown_settings_get_the_name_that_was_meant(
    document: dict[str, object], path: str, suggestion: str
) -> None:
    """Names are looked for in the very table they stand in."""
    assert {path: f"unknown setting; {suggestion}"} == _told(document)


@pytest.mark.parametrize(
    "document",
    [
        {"server": {"host": [KEY], "port": KEY, "wait": KEY, "max_body": KEY, "help_url": KEY}},
        {"redis": {"url": KEY, "url_env": KEY, "timeout": KEY, "password": KEY}},
        {"assets": {"url": KEY}, "network": {"proxy": KEY, "ca_file": [KEY]}, "polling": KEY},
        {"polling": {"max_concurrent": KEY}, "models": {"m": KEY, "n": {"routes": KEY}}},
        {"providers": {"p": {"kind": KEY, "base_url": KEY, "api_key_env": KEY, "api_key": KEY}}},
        {"providers": {"p": {"kind": "evolink", "result_hosts": KEY, "credits_per_usd": KEY}}},
        {"teams": {"a": {"keys": KEY, "timezone": KEY, "budgets": [KEY], "defaults": KEY}}},
        {"teams": {"a": {"budgets": [{"usd": KEY, "per": KEY, "name": [KEY], "timezone": KEY}]}}},
        {"teams": {"a": {"keys": [{"name": "K y", "sha256": KEY, "env": KEY, "key": KEY}]}}},
    ],
)
def test_what_was_written_is_never_repeated(document: dict[str, object]) -> None:
    """A key that was pasted into any line at all stays out of the messages."""
    assert KEY not in str(_told(document))


def test_an_error_lists_every_problem_on_a_line() -> None:
    """The text of the error is what a terminal shows."""
    error = ConfigError([Problem("a.b", "expected a table"), Problem("c", "no such file")])

    assert str(error) == "a.b: expected a table\nc: no such file"
