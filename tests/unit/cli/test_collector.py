from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway.cli.collector import THRESHOLDS, collect_seldom


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Let nothing be frozen at first (what was here when tests were found is), and much at last."""
    thresholds = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.set_threshold(*thresholds)
    gc.freeze()


def test_what_is_here_is_left_alone() -> None:
    """Modules and classes are not walked any more, and the rest seldom."""
    frozen = gc.get_freeze_count()
    collect_seldom()

    assert THRESHOLDS == gc.get_threshold()
    assert gc.get_freeze_count() > frozen + 10_000


def test_garbage_is_still_found() -> None:
    """What is made later and held by nothing but itself goes; the collector is not off."""
    collect_seldom()
    knot = Knot()
    gone = weakref.ref(knot)
    del knot
    gc.collect()

    assert gone() is None
    assert gc.isenabled()
