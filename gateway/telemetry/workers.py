"""Metrics of several worker processes: each writes what it counts into files that all may read.

The files are prometheus_client's (its multiprocess mode); their names carry the worker's *slot*
instead of a process id. A worker that takes the place of a dead one goes on counting in its files:
totals never fall, and no number of restarts makes more files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.values import MultiProcessValue, MutexValue

#: The variable that names the folder; the library reads it when it is imported.
FOLDER_ENV = "PROMETHEUS_MULTIPROC_DIR"

_PREFIX = "gateway-metrics-"


@contextmanager
def shared_folder(place: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder for the workers of this process, gone after.

    It is in the system's folder for temporary files unless another is given. Those that parents
    left there when they were killed go first: the kernel has given their locks back.
    """
    place = place or Path(tempfile.gettempdir())
    for left in place.glob(f"{_PREFIX}*"):
        with suppress(OSError), _locked(left):
            shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
    with _locked(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock. Raises OSError when it is held, is another user's, or is a link."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(held).st_uid != os.getuid():
            raise PermissionError(folder)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


def count_as_worker(slot: int) -> None:
    """Keep whatever this process counts from now on in the files of a slot.

    Before the first metric is made, in a process that was started with FOLDER_ENV, and that is the
    only one of its slot.
    """
    values.ValueClass = MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call] # as published
    # Of a `Reading` labels can well be removed: it is in no file.
    warnings.filterwarnings("ignore", "Removal of labels", UserWarning)


def forget_gauges(slot: int, folder: Path) -> None:
    """Drop what a worker that is dead had at that moment; what it had counted stays."""
    mark_process_dead(slot, str(folder))  # type: ignore[no-untyped-call] # as published


def sum_over_workers(registry: CollectorRegistry, folder: Path) -> None:
    """Let a registry tell what is in the files of all workers."""
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call] # as published


class Reading(Gauge):
    """A gauge of something that is the same for all workers: each tells what it read itself."""

    def _metric_init(self) -> None:
        self._value = MutexValue(  # type: ignore[no-untyped-call] # as published
            self._type, self._name, self._name, self._labelnames, self._labelvalues, ""
        )
