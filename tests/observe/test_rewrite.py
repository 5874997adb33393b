"""Shortened rules say what the rules say, in less time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.observe.faults import GROUPS, LAST, STANDING
from tests.observe.rewrite import THRESHOLDS, write_rules
from tests.observe.stack import ROOT

RULES = ROOT / "deploy" / "prometheus"


def test_only_spans_change(tmp_path: Path) -> None:
    """Names, labels and what is compared with stay; every window and `for` is seconds."""
    for path in write_rules(RULES, tmp_path):
        text, short = (RULES / path.name).read_text(), path.read_text()
        spans = r"\[\w+\]|offset \w+|for: \w+|interval: \w+"
        for old, new in THRESHOLDS.items():
            short = short.replace(new, old)
        unlike = [
            (one, other)
            for one, other in zip(text.splitlines(), short.splitlines(), strict=True)
            if re.sub(spans, "", one) != re.sub(spans, "", other)
        ]

        assert unlike == []
        assert not re.search(r"\[\w+[mhd]\]|for: \w+[mh]|offset \w+[mhd]", short)


def test_a_rule_that_changed_is_noticed(tmp_path: Path) -> None:
    """A threshold that is not there any more would be tested as it ships: never, in a minute."""
    source = tmp_path / "rules"
    source.mkdir()
    for name in ("recording.yml", "alerts.yml"):
        text = (RULES / name).read_text().replace("> 120", "> 121")
        (source / name).write_text(text)

    with pytest.raises(ValueError, match="120"):
        write_rules(source, tmp_path)


def test_every_alert_has_a_fault() -> None:
    """None ships that was never seen to fire."""
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    shipped = {rule["alert"] for group in groups for rule in group["rules"]}
    set_off = [alert for faults in (*GROUPS, LAST) for fault in faults for alert in fault.alerts]

    assert shipped == {*set_off, *STANDING}
    assert len(set_off) == len(set(set_off))
