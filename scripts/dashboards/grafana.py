"""Dashboards, panels and queries as values, and as the JSON that Grafana reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SOURCE = {"type": "prometheus", "uid": "${datasource}"}

#: What the variables of a dashboard choose among.
TEAM = 'team=~"$team"'
MODEL = 'model=~"$model"'
PROVIDER = 'provider=~"$provider"'
#: The calls for pictures, among all routes.
ORDERS = 'route=~".*(generations|edits)"'

WIDTH = 24


@dataclass(frozen=True)
class Query:
    """One PromQL expression; `legend` names its series by their labels."""

    expr: str
    legend: str = "__auto"
    form: str = "time_series"
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel: what it asks, how it is drawn, and a sentence on how to read it."""

    title: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    height: int = 8
    text: str = ""
    stacked: bool = False
    most: float | None = None
    repeat: str = ""
    content: str = ""
    steps: Sequence[tuple[float | None, str]] = field(default=((None, "green"),))


@dataclass(frozen=True)
class Dashboard:
    """One file."""

    uid: str
    title: str
    description: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    variables: Sequence[str] = ("team", "model", "provider")


def quantiles(metric: str, selector: str, by: str, *points: float) -> list[Query]:
    """Return a query for each quantile of a histogram."""
    legend = f"{{{{{by}}}}} " if by else ""
    group = f"{by}, le" if by else "le"
    return [
        Query(
            f"histogram_quantile({point:g}, sum by ({group})"
            f" (rate({metric}_bucket{{{selector}}}[$__rate_interval])))",
            f"{legend}p{point * 100:g}",
        )
        for point in points
    ]


def rendered(board: Dashboard) -> str:
    """Return a dashboard as the text of its file."""
    return json.dumps(_board(board), indent=2, ensure_ascii=False) + "\n"


def _board(board: Dashboard) -> dict[str, object]:
    panels: list[dict[str, object]] = []
    top = 0
    for title, row in board.rows:
        panels.append(
            {
                "type": "row",
                "id": len(panels) + 1,
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            }
        )
        top += 1
        left = below = 0
        for panel in row:
            if left + panel.width > WIDTH:
                top, left, below = top + below, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            panels.append(_panel(panel, len(panels) + 1, place))
            left, below = left + panel.width, max(below, panel.height)
        top += below
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["image-gateway"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [*_variables(board.variables)]},
        "links": [
            {
                "title": "Image gateway",
                "type": "dashboards",
                "tags": ["image-gateway"],
                "asDropdown": False,
                "icon": "",
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "annotations": {"list": []},
        "panels": panels,
    }


def _variables(names: Iterable[str]) -> Iterable[dict[str, object]]:
    yield {
        "name": "datasource",
        "type": "datasource",
        "label": "Prometheus",
        "query": "prometheus",
        "current": {"selected": False, "text": "default", "value": "default"},
        "hide": 0,
        "refresh": 1,
        "regex": "",
    }
    metrics = {
        "team": "gateway_requests_total",
        "model": 'gateway_requests_total{model!="other"}',
        "provider": "gateway_tasks_in_flight",
    }
    for name in names:
        query = f"label_values({metrics[name]}, {name})"
        yield {
            "name": name,
            "type": "query",
            "label": name.capitalize(),
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "hide": 0,
            "regex": "",
        }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, object]:
    made: dict[str, object] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "gridPos": place,
    }
    if panel.kind == "text":
        return made | {"options": {"mode": "markdown", "content": panel.content}}
    made["datasource"] = SOURCE
    made["targets"] = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend,
            "format": query.form,
            "instant": query.instant,
            "range": not query.instant,
        }
        for index, query in enumerate(panel.queries)
    ]
    made["fieldConfig"] = {"defaults": _defaults(panel), "overrides": []}
    made["options"] = _OPTIONS[panel.kind]
    if panel.repeat:
        made |= {"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 2}
    return made


def _defaults(panel: Panel) -> dict[str, object]:
    steps = [{"value": value, "color": color} for value, color in panel.steps]
    defaults: dict[str, object] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if len(panel.steps) > 1 else "palette-classic"},
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 60 if panel.stacked else 10,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return defaults


_REDUCED = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[str, dict[str, object]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _REDUCED,
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
        "justifyMode": "auto",
        "orientation": "auto",
    },
    "bargauge": {
        "reduceOptions": _REDUCED,
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5},
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
    },
}
