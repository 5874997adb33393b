"""Counting in files, by processes of their own: how values are kept is decided for a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.workers import FOLDER_ENV, forget_gauges, shared_folder

#: A worker of slot argv[1] that has as many tasks, pictures and budgets as argv[2] says, and dies.
WORKER = f"""
import os, signal, sys, warnings
from pathlib import Path
from prometheus_client import CollectorRegistry, generate_latest
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.workers import count_as_worker

warnings.simplefilter("error")
slot, number = int(sys.argv[1]), int(sys.argv[2])
count_as_worker(slot)
metrics = Metrics(CollectorRegistry(), version="7", shared=Path(os.environ["{FOLDER_ENV}"]))
metrics.recovered_tasks.inc(number)
metrics.overhead.labels("images").observe(number)
metrics.tasks_in_flight.labels("evolink").inc(number)
metrics.follow(metrics.queue_length.labels("evolink"), lambda: number)
metrics.refresh()
for name in ("old", "new"):
    metrics.budget_spent.labels("team", "design", name, "day").set(number)
metrics.budget_spent.remove("team", "design", "old", "day")
sys.stdout.write(generate_latest(metrics.registry).decode())
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the folder that workers share."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    return folder


def run_worker(folder: Path, *, slot: int, number: int) -> str:
    """Run a worker until it is killed; return what it told at the end."""
    environ = os.environ | {FOLDER_ENV: str(folder)}  # noqa: TID251 - a child's environment
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(slot), str(number)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (-9, "") == (done.returncode, done.stderr)
    return done.stdout


def test_any_worker_tells_what_all_have_counted(folder: Path) -> None:
    """Counters, histograms and parts add up; what was read outside is told as it was read here."""
    run_worker(folder, slot=0, number=5)
    told = run_worker(folder, slot=1, number=2)

    for line in (
        "gateway_recovered_tasks_total 7.0",
        'gateway_overhead_seconds_bucket{le="2.5",route="images"} 1.0',
        'gateway_overhead_seconds_count{route="images"} 2.0',
        'gateway_tasks_in_flight{provider="evolink"} 7.0',
        'gateway_queue_length{provider="evolink"} 7.0',
        'gateway_budget_spent_usd{name="new",per="day",scope="team",team="design"} 2.0',
        'gateway_build_info{version="7"} 1.0',
    ):
        assert 1 == told.splitlines().count(line), line
    assert 'name="old"' not in told
    assert "pid=" not in told


def test_a_dead_worker_leaves_what_it_counted(folder: Path) -> None:
    """Its counters stay, what it had at that moment goes, and the next in its slot goes on."""
    run_worker(folder, slot=0, number=5)
    forget_gauges(0, folder)
    told = run_worker(folder, slot=0, number=2)

    assert "gateway_recovered_tasks_total 7.0" in told
    assert 'gateway_overhead_seconds_count{route="images"} 2.0' in told
    assert 'gateway_tasks_in_flight{provider="evolink"} 2.0' in told
    assert {
        "counter_0.db",
        "histogram_0.db",
        "gauge_livemax_0.db",
        "gauge_livesum_0.db",
    } == {file.name for file in folder.iterdir()}


def test_only_the_dead_worker_is_forgotten(folder: Path) -> None:
    """What the others have at this moment stays."""
    for slot in (0, 1, 10):
        run_worker(folder, slot=slot, number=1)
    forget_gauges(1, folder)
    shared = Metrics(CollectorRegistry(), version="7", shared=folder).registry

    assert 2 == shared.get_sample_value("gateway_tasks_in_flight", {"provider": "evolink"})
    assert 3 == shared.get_sample_value("gateway_recovered_tasks_total")


def test_folders_of_killed_parents_go_when_the_next_one_starts(tmp_path: Path) -> None:
    """One that is in use stays, and so does what only looks like one; each is gone at its end."""
    left = tmp_path / "gateway-metrics-left"
    left.mkdir()
    (left / "counter_0.db").write_bytes(b"x")
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "gateway-metrics-link").symlink_to(target)
    with shared_folder(tmp_path) as first, shared_folder(tmp_path) as second:
        there = {path.name for path in tmp_path.iterdir()}
        assert [] == [*first.iterdir(), *second.iterdir()]

    assert {first.name, second.name, "target", "gateway-metrics-link"} == there
    assert {"target", "gateway-metrics-link"} == {path.name for path in tmp_path.iterdir()}
