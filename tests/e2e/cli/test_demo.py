from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo once in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", "demo", "--once", "--port", "0", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_demo_makes_and_edits_a_picture_and_tells_what_they_cost(tmp_path: Path) -> None:
    """One command leaves two PNGs of the asked size and prints task, cost and what is left."""
    done = run(tmp_path)

    assert (0, "") == (done.returncode, done.stderr)
    for name in ("picture.png", "edit.png"):
        with Image.open(tmp_path / "demo" / name) as picture:
            assert ((1024, 1024), "PNG") == (picture.size, picture.format)
    assert "imgtask_" in done.stdout
    assert "$0.0078" in done.stdout
    assert "$4.992" in done.stdout
    # The picture that it is made from is 1,536 tokens more.
    assert "$0.0189" in done.stdout
    assert "$4.973" in done.stdout


def test_demo_as_json_adds_up(tmp_path: Path) -> None:
    """With --json nothing but the result is on stdout, and cost and remaining make the budget."""
    done = run(tmp_path, "--json", "--output", "elsewhere")

    result = json.loads(done.stdout)
    assert 0 == done.returncode
    assert (tmp_path / result["picture"]["file"]).exists()
    assert (tmp_path / result["edit"]["file"]).exists()
    costs = [float(made["cost_usd"]) for made in result.values()]
    total = sum(costs) + float(result["edit"]["budget_remaining_usd"])
    assert 5_000_000 == round(total * 1e6)
