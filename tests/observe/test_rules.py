"""The rules that ship: they parse, each alert has its unit test and its runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.observe.tools import needs_prometheus

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
TESTS = PROMETHEUS / "tests" / "rules_test.yml"
RUNBOOKS = ROOT / "docs" / "operations.md"


def alerts() -> list[dict]:
    """Return every alert that ships."""
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str | Path) -> str:
    """Run promtool; what it found wrong is the test's message."""
    tool = shutil.which("promtool")
    assert tool is not None
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_prometheus
def test_rules_and_scrape_configuration_are_valid() -> None:
    """Prometheus takes them as they ship."""
    promtool("check", "rules", PROMETHEUS / "recording.yml", PROMETHEUS / "alerts.yml")
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


@needs_prometheus
@pytest.mark.slow
def test_every_alert_fires_after_its_fault_and_not_before() -> None:
    """The unit tests that ship with the rules pass."""
    assert "SUCCESS" in promtool("test", "rules", TESTS)


def test_every_alert_has_a_unit_test() -> None:
    """Each is expected to fire once at least, and to be quiet once."""
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    checks = [check for test in tests for check in test.get("alert_rule_test", [])]
    names = {rule["alert"] for rule in alerts()}

    assert names == {check["alertname"] for check in checks if check.get("exp_alerts")}
    assert names == {check["alertname"] for check in checks if not check.get("exp_alerts")}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_its_runbook(rule: dict) -> None:
    """Whoever is woken up finds the section that says what to look at and do."""
    place, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", RUNBOOKS.read_text(), re.MULTILINE)
    section = RUNBOOKS.read_text().partition(f"### {rule['alert']}\n")[2].partition("###")[0]

    assert ("docs/operations.md", rule["alert"].lower()) == (place, anchor)
    assert anchor in {heading.lower() for heading in headings}
    assert "Do:" in section or "As [" in section
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_no_rule_makes_data_where_there_is_none() -> None:
    """An expression that fills gaps with zeros cannot be told from one that finds nothing."""
    for path in PROMETHEUS.glob("*.yml"):
        assert not re.search(r"vector\(|or on\s*\(", path.read_text())
