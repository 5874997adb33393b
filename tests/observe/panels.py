"""The queries of the dashboards that ship, run as Grafana would run them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.observe.stack import ROOT, Stack

FOLDER = ROOT / "deploy" / "grafana" / "dashboards"

#: What stands for Grafana's own variables; scrapes come every second.
RATE_INTERVAL = "10s"
STEP_S = 1.0


@dataclass(frozen=True)
class Asked:
    """One query of a panel and the series it returned, each (labels, [(Unix seconds, value)])."""

    dashboard: str
    panel: dict[str, Any]
    target: dict[str, Any]
    series: list[tuple[dict[str, str], list[tuple[float, float]]]]

    @property
    def found(self) -> int:
        """How many series have a value that is a number."""
        return sum(any(not math.isnan(value) for _, value in points) for _, points in self.series)


def dashboards() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each dashboard by the name of its file."""
    for path in sorted(FOLDER.glob("*.json"), key=_in_order):
        yield path.stem, json.loads(path.read_text())


def _in_order(path: Path) -> int:
    return ["spend", "latency", "operations"].index(path.stem)


def filled(expr: str, range_s: float) -> str:
    """Return a query with Grafana's variables replaced: all teams, models and providers."""
    expr = expr.replace("$__rate_interval", RATE_INTERVAL).replace("$__range", f"{range_s:.0f}s")
    for name in ("team", "model", "provider"):
        expr = expr.replace(f"${name}", ".*")
    if "$" in expr:
        raise ValueError(f"a variable is left in {expr}")
    return expr


async def ask_all(stack: Stack, since_s: float, until_s: float) -> list[Asked]:
    """Run every query of every panel over a span of time."""
    return [
        Asked(name, panel, target, await _ask(stack, target, since_s, until_s))
        for name, board in dashboards()
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]


async def _ask(
    stack: Stack, target: dict[str, Any], since_s: float, until_s: float
) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
    expr = filled(target["expr"], until_s - since_s)
    if target["instant"]:
        told = await stack.ask("query", query=expr, time=until_s)
        return [(one["metric"], [(float(one["value"][0]), float(one["value"][1]))]) for one in told]
    told = await stack.ask("query_range", query=expr, start=since_s, end=until_s, step=STEP_S)
    return [
        (one["metric"], [(float(at), float(value)) for at, value in one["values"]]) for one in told
    ]


def table(asked: list[Asked]) -> str:
    """Return panel × query × series as text."""
    lines = [f"{'dashboard':<11} {'panel':<44} {'series':>6}  query"]
    for one in asked:
        title, expr = one.panel["title"], one.target["expr"]
        lines.append(f"{one.dashboard:<11} {title[:44]:<44} {one.found:>6}  {expr}")
    return "\n".join(lines)
