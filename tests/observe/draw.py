"""Draws the panels of dashboards from what Prometheus answered: pictures for the docs."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from tests.observe.panels import Asked, dashboards

mpl.use("Agg")
mpl.rcParams |= {"font.family": "DejaVu Sans", "font.size": 8}

GROUND, CARD, EDGE, TEXT, FAINT = "#111217", "#181b1f", "#24292e", "#d5d6db", "#8e8e9b"
COLORS = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#ffa6b0"),
    *("#96d98d", "#fade2a", "#c0d8ff", "#ffb357", "#ff7383", "#37872d"),
)
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
HEAT = LinearSegmentedColormap.from_list("heat", [CARD, "#7d3a08", "#ff780a", "#ffd9a8"])

#: Inches of one of Grafana's grid units, and how many units are across.
UNIT_W, UNIT_H, ACROSS = 0.72, 0.34, 24
HEADER = 2


def told(value: float, unit: str) -> str:
    """Return a value as a person reads it."""
    return "no value" if math.isnan(value) else _FORMS.get(unit, _unitless)(value)


def _unitless(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _dollars(value: float) -> str:
    if value == int(value):
        return f"${value:,.0f}"
    return f"${value:,.2f}" if abs(value) >= 0.1 else f"${value:.3f}"


def _seconds(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if abs(value) < 120 else f"{value / 60:.3g} min"


def _rate(value: float) -> str:
    return f"{value:.3g}/s"


#: How values of Grafana's units are told.
_FORMS: dict[str, Callable[[float], str]] = {
    "currencyUSD": _dollars,
    "s": _seconds,
    "percentunit": lambda value: f"{value * 100:.0f}%",
    "bytes": lambda value: f"{value / (1 << 30):.3g} GiB",
    "reqps": _rate,
    "ops": _rate,
}


def draw_all(asked: Sequence[Asked], folder: Path) -> None:
    """Write a PNG for each dashboard."""
    folder.mkdir(parents=True, exist_ok=True)
    moments = [at_s for one in asked for _, points in one.series for at_s, _ in points]
    span = (min(moments), max(moments))
    for name, board in dashboards():
        mine = [one for one in asked if one.dashboard == name]
        figure = _drawn(board, mine, span)
        page = io.BytesIO()
        figure.savefig(page, dpi=100, facecolor=GROUND)
        # A palette is enough for lines, and a third of the bytes.
        with Image.open(page) as drawn:
            drawn.convert("RGB").quantize(255).save(folder / f"dashboard-{name}.png", optimize=True)


class Page:
    """A figure, measured in Grafana's grid from its upper left corner."""

    def __init__(self, height: float, span: tuple[float, float]) -> None:
        self._height = height
        self.start_s, self.length_s = span[0], span[1] - span[0]
        self.figure = Figure(figsize=(ACROSS * UNIT_W, height * UNIT_H), facecolor=GROUND)

    def axes(self, x: float, y: float, w: float, h: float) -> Axes:
        """Return axes at a place of the grid."""
        return self.figure.add_axes(
            (x / ACROSS, 1 - (y + h) / self._height, w / ACROSS, h / self._height)
        )

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write at a place of the grid."""
        self.figure.text(x / ACROSS, 1 - y / self._height, text, **{"color": TEXT, **style})

    def card(self, x: float, y: float, w: float, h: float) -> None:
        """Draw the ground of a panel."""
        axes = self.axes(x + 0.08, y + 0.12, w - 0.16, h - 0.24)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.axis("off")
        axes.add_patch(
            FancyBboxPatch(
                (0.004, 0.008),
                0.992,
                0.984,
                "round,pad=0,rounding_size=0.01",
                facecolor=CARD,
                edgecolor=EDGE,
                linewidth=0.8,
                mutation_aspect=w / h,
            )
        )


def _drawn(board: dict[str, Any], asked: Sequence[Asked], span: tuple[float, float]) -> Figure:
    panels = board["panels"]
    bottom = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in panels)
    page = Page(bottom + HEADER, span)
    page.write(0.25, 1.15, board["title"], fontsize=15, weight="bold", va="center")
    page.write(
        ACROSS - 0.25,
        1.15,
        "drawn from Prometheus by `make observe`: a minute of faults",
        fontsize=8,
        color=FAINT,
        ha="right",
        va="center",
    )
    for panel in panels:
        place = panel["gridPos"]
        x, y, w, h = place["x"], place["y"] + HEADER, place["w"], place["h"]
        if panel["type"] == "row":
            page.write(x + 0.25, y + 0.65, panel["title"], fontsize=10, weight="bold", va="center")
            continue
        page.card(x, y, w, h)
        title = "All models" if panel["title"] == "$model" else panel["title"]
        page.write(x + 0.35, y + 0.75, title, fontsize=8.5, weight="bold", va="center")
        mine = [one for one in asked if one.panel["id"] == panel["id"]]
        _KINDS[panel["type"]](page, panel, mine, (x, y, w, h))
    return page.figure


Place = tuple[float, float, float, float]


def _named(one: Asked, labels: dict[str, str]) -> str:
    legend = one.target["legendFormat"]
    if legend == "__auto":
        return ", ".join(labels.values())
    legend = re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)
    return legend.strip()


def _series(asked: Iterable[Asked]) -> list[tuple[str, list[tuple[float, float]]]]:
    found = [(_named(one, labels), points) for one in asked for labels, points in one.series]
    return sorted(
        found, key=lambda one: -max((v for _, v in one[1] if not math.isnan(v)), default=0)
    )


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=FAINT, labelsize=7, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(color=EDGE, linewidth=0.6)
    axes.set_axisbelow(True)


def _timeseries(page: Page, panel: dict[str, Any], asked: Sequence[Asked], at: Place) -> None:
    x, y, w, h = at
    series = _series(asked)
    rows = min(2, math.ceil(len(series) / _columns(w)))
    axes = page.axes(x + 1.35, y + 1.5, w - 1.75, h - 2.75 - rows * 0.55)
    _plain(axes)
    start = page.start_s
    custom = panel["fieldConfig"]["defaults"]["custom"]
    if custom["stacking"]["mode"] == "normal" and series:
        moments = sorted({at_s for _, points in series for at_s, _ in points})
        stack = [[_at(points, moment) for moment in moments] for _, points in series]
        axes.stackplot(
            [moment - start for moment in moments],
            stack,
            colors=COLORS[: len(series)],
            alpha=0.72,
            linewidth=0,
        )
    else:
        for (_, points), color in zip(series, _cycle(len(series)), strict=True):
            axes.plot(
                [at_s - start for at_s, _ in points],
                [value for _, value in points],
                color=color,
                linewidth=1.3,
            )
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_ylim(bottom=0)
    if axes.get_ylim()[1] <= 0.06 and unit == "short":
        axes.set_ylim(0, 1)
    axes.set_xlim(0, page.length_s)
    axes.yaxis.set_major_formatter(lambda value, _: told(value, unit))
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(max(3, int(w / 2.2))))
    _legend(page, [name for name, _ in series], (x, y, w, h), rows)


def _legend(page: Page, names: Sequence[str], at: Place, rows: int) -> None:
    x, y, w, h = at
    columns = _columns(w)
    for index, (name, color) in enumerate(zip(names, _cycle(len(names)), strict=True)):
        row, column = divmod(index, columns)
        if row >= rows:
            break
        left = x + 0.4 + column * (w - 0.6) / columns
        top = y + h - 0.55 - (rows - 1 - row) * 0.55
        page.write(left, top, "▬", fontsize=7, color=color, va="center")
        most = int((w - 0.6) / columns * 8.6) - 3
        short = name if len(name) <= most else f"{name[: most - 1]}…"
        page.write(left + 0.32, top, short, fontsize=6.8, va="center")


def _columns(width: float) -> int:
    return max(2, int(width / 2.6))


def _cycle(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]


def _at(points: Sequence[tuple[float, float]], moment: float) -> float:
    """Return the value at a moment, zero where there is none."""
    value = next((value for at_s, value in points if at_s == moment), 0.0)
    return 0.0 if math.isnan(value) else value


def _color(panel: dict[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [one["color"] for one in steps if one["value"] is None or value >= one["value"]]
    return NAMED[reached[-1]]


def _stat(page: Page, panel: dict[str, Any], asked: Sequence[Asked], at: Place) -> None:
    x, y, w, h = at
    values = [(name, points[-1][1]) for name, points in _series(asked)]
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for index, (name, value) in enumerate(values):
        middle = x + w * (index + 0.5) / len(values)
        page.write(
            middle,
            y + h * 0.62,
            told(value, unit),
            fontsize=17 if len(values) < 3 else 13,
            weight="bold",
            color=_color(panel, value),
            ha="center",
            va="center",
        )
        if (name and len(values) > 1) or (name and unit == "short" and name[0].isalnum()):
            page.write(
                middle, y + h - 0.55, name, fontsize=7, color=FAINT, ha="center", va="center"
            )


def _bargauge(page: Page, panel: dict[str, Any], asked: Sequence[Asked], at: Place) -> None:
    x, y, w, h = at
    bars = sorted(
        (_named(one, labels), points[-1][1]) for one in asked for labels, points in one.series
    )
    axes = page.axes(x + 4.6, y + 1.4, w - 6.3, h - 1.9)
    axes.set(xlim=(0, 1), ylim=(len(bars) - 0.5, -0.5))
    axes.axis("off")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for row, (name, value) in enumerate(bars):
        faint = 0.55 if "forecast" in name else 1.0
        axes.barh(row, 1, height=0.62, color=EDGE)
        axes.barh(row, min(value, 1), height=0.62, color=_color(panel, value), alpha=faint)
        axes.text(-0.015, row, name, color=TEXT, fontsize=7, ha="right", va="center")
        axes.text(
            1.015,
            row,
            told(value, unit),
            color=_color(panel, value),
            fontsize=8,
            weight="bold",
            va="center",
        )


def _heatmap(page: Page, _: dict[str, Any], asked: Sequence[Asked], at: Place) -> None:
    x, y, w, h = at
    series = {float(labels["le"]): dict(points) for one in asked for labels, points in one.series}
    bounds = sorted(bound for bound in series if math.isfinite(bound))
    moments = sorted({moment for points in series.values() for moment in points})
    axes = page.axes(x + 1.35, y + 1.5, w - 1.75, h - 2.75)
    _plain(axes)
    rows, below = [], [0.0] * len(moments)
    for bound in bounds:
        until = [_number(series[bound].get(moment, 0.0)) for moment in moments]
        rows.append([max(now - under, 0.0) ** 0.5 for now, under in zip(until, below, strict=True)])
        below = until
    used = [index for index, row in enumerate(rows) if any(row)]
    first, last = max(0, used[0] - 1), min(len(rows), used[-1] + 2)
    axes.pcolormesh(
        [moment - page.start_s for moment in moments],
        range(last - first),
        rows[first:last],
        cmap=HEAT,
        shading="nearest",
    )
    axes.set_yticks(range(last - first), [_seconds(bound) for bound in bounds[first:last]])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} s")
    axes.set_xlim(0, page.length_s)
    axes.grid(visible=False)


def _number(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _text(page: Page, panel: dict[str, Any], _: Sequence[Asked], at: Place) -> None:
    x, y, w, _h = at
    line = y + 1.8
    for part in panel["options"]["content"].split("\n"):
        if part.startswith("```"):
            continue
        is_code = part.startswith("gateway ")
        for piece in wrap(part.replace("`", ""), int(w * 7)) or [""]:
            style = {"family": "monospace", "color": COLORS[2]} if is_code else {}
            page.write(x + 0.4, line, piece, fontsize=7.5, va="center", **style)
            line += 0.62


_KINDS: dict[str, Callable[[Page, dict[str, Any], Sequence[Asked], Place], None]] = {
    "timeseries": _timeseries,
    "stat": _stat,
    "bargauge": _bargauge,
    "heatmap": _heatmap,
    "text": _text,
}
