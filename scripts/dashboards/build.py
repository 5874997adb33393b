"""Write deploy/grafana/dashboards/*.json: the dashboards as code, the files as what is imported.

Run it after a change; a test compares. Grafana takes the files as they are, by hand (the data
source is a variable) or provisioned from deploy/grafana/provisioning.
"""

from __future__ import annotations

from pathlib import Path

from grafana import rendered
from latency import LATENCY
from operations import OPERATIONS
from spend import SPEND

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards"
DASHBOARDS = (SPEND, LATENCY, OPERATIONS)


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for board in DASHBOARDS:
        path = FOLDER / f"{board.uid.removeprefix('gateway-')}.json"
        path.write_text(rendered(board), encoding="utf-8")
        print(path.relative_to(FOLDER.parents[2]))


if __name__ == "__main__":
    main()
