"""A file of faults: what is played for which requests, without a word in any prompt.

The file is TOML (``[[rules]]`` tables) or JSON (an object with ``rules``). A rule names a route,
what it plays in the language of ``markers.py``, and when: ``nth`` (a list of request numbers,
counted from 1 for each route), ``every``, ``first`` or ``probability``; without any, always.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from gateway.simulator.errors import RefusedError
from gateway.simulator.markers import ROUTES, read_rule, read_script
from gateway.simulator.script import Script

_WHEN = ("nth", "every", "first", "probability")


class RulesError(Exception):
    """Say what is wrong with a file of faults."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Play something for some requests of a route; made by ``read_rules``."""

    route: str
    play: str
    nth: frozenset[int] = frozenset()
    every: int = 0
    first: int = 0
    probability: float | None = None

    def applies(self, number: int, random: Random) -> bool:
        """Tell whether it plays for request ``number`` of its route, the first being 1."""
        if self.probability is not None:
            return random.random() < self.probability
        if self.nth:
            return number in self.nth
        if self.every:
            return number % self.every == 0
        return not self.first or number <= self.first


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Return the rules of a file; raise ``RulesError`` when it cannot be read or makes no sense."""
    try:
        text = path.read_text(encoding="utf-8")
        body = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as mistake:
        raise RulesError(f"{path}: {mistake.strerror}") from mistake
    except ValueError as mistake:
        raise RulesError(f"{path}: {mistake}") from mistake
    try:
        return read_rules(body)
    except RulesError as mistake:
        raise RulesError(f"{path}: {mistake}") from mistake


def read_rules(body: Any) -> tuple[Rule, ...]:
    """Return the rules of a parsed file; raise ``RulesError`` for one that makes no sense."""
    if not isinstance(body, dict) or set(body) != {"rules"} or not isinstance(body["rules"], list):
        raise RulesError("a file of faults holds a list of rules, and nothing else")
    return tuple(_rule(f"rules[{number}]", row) for number, row in enumerate(body["rules"]))


def _rule(name: str, row: Any) -> Rule:
    if not isinstance(row, dict):
        raise RulesError(f"{name} is not a table")
    unknown = sorted(set(row) - {"route", "play", *_WHEN})
    if unknown:
        raise RulesError(f"{name}.{unknown[0]} is unknown")
    if row.get("route") not in ROUTES:
        raise RulesError(f"{name}.route must be one of {', '.join(ROUTES)}")
    if not isinstance(row.get("play"), str):
        raise RulesError(f"{name}.play must be a text of markers")
    try:
        read_rule(row["route"], row["play"])
    except RefusedError as mistake:
        raise RulesError(f"{name}.play: {mistake}") from mistake
    given = [when for when in _WHEN if when in row]
    if len(given) > 1:
        raise RulesError(f"{name} has both {given[0]} and {given[1]}")
    return Rule(
        route=row["route"],
        play=row["play"],
        nth=frozenset(_numbers(f"{name}.nth", row["nth"])) if "nth" in row else frozenset(),
        every=_number(f"{name}.every", row["every"]) if "every" in row else 0,
        first=_number(f"{name}.first", row["first"]) if "first" in row else 0,
        probability=_share(f"{name}.probability", row.get("probability")),
    )


def _numbers(name: str, value: Any) -> Sequence[int]:
    if not isinstance(value, list) or not value:
        raise RulesError(f"{name} must be a list of numbers")
    return [_number(name, number) for number in value]


def _number(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RulesError(f"{name} must be a whole number from 1")
    return value


def _share(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise RulesError(f"{name} must be a number from 0 to 1")
    return float(value)


class Stage:
    """Choose what is played for each request, by the rules; counts requests per route."""

    def __init__(self, rules: Sequence[Rule], seed: int | None) -> None:
        self._rules = {route: [rule for rule in rules if rule.route == route] for route in ROUTES}
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Count from 1 again; with a seed, the same requests then meet the same faults."""
        self._random = Random(self._seed)  # noqa: S311 - repeats on purpose
        self._seen: Counter[str] = Counter()

    def submit(self, prompt: str) -> tuple[Script, str]:
        """Return the script of the next submit and its prompt; markers win over rules."""
        return read_script(prompt, self.next("submit"))

    def next(self, route: str) -> Script:
        """Return what the rules play for the next request of ``route``; later rules win."""
        self._seen[route] += 1
        number = self._seen[route]
        playing = [rule.play for rule in self._rules[route] if rule.applies(number, self._random)]
        return read_rule(route, "".join(playing)) if playing else Script()
