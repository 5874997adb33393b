"""The rules that ship, with hours made seconds, so that a minute can set each of them off.

Only spans of time are changed: windows, `for`, how often groups are evaluated, and the thresholds
that are spans themselves. What is compared with what stays as it ships; each change is in a table
here, is printed by `make observe`, and must be found in the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

#: Windows of the rules, by what a minute's run can fill.
WINDOWS = {
    "5m": "10s",
    "10m": "10s",
    "15m": "60s",
    "30m": "15s",
    "1h": "15s",
    "6h": "20s",
    "7d": "60s",
}

#: Thresholds that are spans of time: text of the rule, text it becomes.
THRESHOLDS = {
    "p95_rate10m > 120": "p95_rate10m > 5",
    "lag_seconds:p95_rate10m > 10": "lag_seconds:p95_rate10m > 2",
    "task_age_seconds_max) > 900": "task_age_seconds_max) > 12",
    "predict_linear(gateway_provider_credits[15s], 86400)": (
        "predict_linear(gateway_provider_credits[15s], 60)"
    ),
}


def shortened(text: str) -> str:
    """Return a file of rules with its spans shortened."""
    text = re.sub(r"\[(\w+)\]", lambda found: f"[{WINDOWS[found[1]]}]", text)
    text = re.sub(r"offset (\w+)", lambda found: f"offset {WINDOWS[found[1]]}", text)
    text = re.sub(r"(?m)^(\s+)for: \w+$", r"\1for: 1s", text)
    text = re.sub(r"(?m)^(\s+)interval: \w+$", r"\1interval: 1s", text)
    return _replaced(text, {old: new for old, new in THRESHOLDS.items() if old in text})


def write_rules(source: Path, target: Path) -> list[Path]:
    """Write all rules shortened; return the files. Raises ValueError for a change of nothing."""
    written, all_text = [], ""
    for name in ("recording.yml", "alerts.yml"):
        text = (source / name).read_text()
        all_text += re.sub(r"\[(\w+)\]", lambda found: f"[{WINDOWS[found[1]]}]", text)
        written.append(target / name)
        written[-1].write_text(shortened(text))
    if missing := [old for old in THRESHOLDS if old not in all_text]:
        raise ValueError(f"no rule says {missing}")
    return written


def _replaced(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text
