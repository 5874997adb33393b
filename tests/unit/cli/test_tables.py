from __future__ import annotations

import pytest
from rich.table import Table

from gateway.cli.tables import print_whole


def test_nothing_is_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However narrow the terminal: an amount with an ellipsis in it is none."""
    monkeypatch.setenv("COLUMNS", "30")
    table = Table("task", "cost $", box=None)
    table.add_row("imgtask_" + "0" * 32, "0.034633")
    print_whole(table)

    assert f"imgtask_{'0' * 32}  0.034633" in capsys.readouterr().out
