"""The dashboards that ship: as the script writes them, as Grafana reads them."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import jsonschema
import pytest
import yaml
from prometheus_client import CollectorRegistry

from gateway.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
BOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
SCHEMA = json.loads((Path(__file__).parent / "dashboard.schema.json").read_text())


def expressions(board: dict) -> list[str]:
    """Return every query of a dashboard."""
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def test_the_script_writes_what_is_checked_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change by hand would be lost, and one in the script alone never shipped."""
    folder = ROOT / "scripts" / "dashboards"
    monkeypatch.syspath_prepend(str(folder))
    script = runpy.run_path(str(folder / "build.py"))
    written = {
        f"{board.uid.removeprefix('gateway-')}.json": script["rendered"](board)
        for board in script["DASHBOARDS"]
    }

    assert written == {path.name: path.read_text() for path in BOARDS}


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_grafana_can_read_it(path: Path) -> None:
    """It is valid by the schema of Grafana's own types."""
    jsonschema.Draft7Validator(SCHEMA).validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda panel: panel.update(tytle="misspelt"),
        lambda panel: panel["gridPos"].update(w="8"),
        lambda panel: panel.update(targets={}),
        lambda panel: panel.pop("type"),
        lambda panel: panel["fieldConfig"]["defaults"]["thresholds"].update(mode="relative"),
    ],
)
def test_the_schema_finds_mistakes(spoil: object) -> None:
    """A schema that takes everything would be none."""
    board = json.loads(BOARDS[0].read_text())
    spoil(next(panel for panel in board["panels"] if panel["type"] == "timeseries"))  # type: ignore[operator]

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate(board)


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_it_is_imported_by_hand(path: Path) -> None:
    """No data source of somebody's own is in it: it is chosen, as team, model and provider are."""
    board = json.loads(path.read_text())
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    sources = {
        target["datasource"]["uid"]
        for panel in board["panels"]
        for target in panel.get("targets", [])
    }

    assert ["datasource", "team", "model", "provider"] == list(variables)
    assert sources == {"${datasource}"}
    assert "id" not in board
    for name in ("team", "model", "provider"):
        assert any(f'{name}=~"${name}"' in expr for expr in expressions(board))


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_it_asks_for_what_there_is(path: Path) -> None:
    """Every metric of a query is one of ours or a recording rule, and none makes up data."""
    metrics = Metrics(CollectorRegistry(), version="1")
    ours = {
        family.name + suffix
        for family in metrics.registry.collect()
        for suffix in ("", "_total", "_bucket", "_sum", "_count")
    }
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "recording.yml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"]}
    for expr in expressions(json.loads(path.read_text())):
        asked = set(
            re.findall(r"\b(?:\w+:gateway_[\w:]+|gateway:\w+:\w+|gateway_\w+|ALERTS)", expr)
        )
        assert asked
        assert asked <= ours | recorded | {"ALERTS"}
        assert not re.search(r"vector\(|or on\s*\(", expr)


def test_every_metric_is_looked_at() -> None:
    """Each is asked for by a panel, an alert or what these build on."""
    rules = [ROOT / "deploy" / "prometheus" / name for name in ("recording.yml", "alerts.yml")]
    text = "".join(path.read_text() for path in (*BOARDS, *rules))
    asked = set(re.findall(r"\bgateway_[a-z_]+", text))
    families = Metrics(CollectorRegistry(), version="1").registry.collect()
    suffixes = ("", "_total", "_bucket", "_sum")

    assert not [
        family.name
        for family in families
        if not asked & {family.name + suffix for suffix in suffixes}
    ]


def test_what_provisions_them_names_their_folder() -> None:
    """Both files are what Grafana reads at its start."""
    boards = yaml.safe_load((GRAFANA / "provisioning/dashboards/gateway.yml").read_text())
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())

    assert boards["providers"][0]["options"]["path"].endswith("/dashboards")
    assert sources["datasources"][0]["type"] == "prometheus"
