from __future__ import annotations

import pytest

from gateway.ledger.checkpoint import (
    NOTHING,
    Checkpoint,
    OpenHold,
    UnreadableCheckpointError,
    fields_of,
    parse_checkpoint,
)
from gateway.ledger.entries import Counters
from gateway.ledger.rollups import SumKey

WHOLE = Checkpoint(
    last="1795435200000-3",
    from_day="20261122",
    windows={"{t:design}:budget:team::day:1795392000000": Counters(1, -2, 3)},
    holds={"t1": OpenHold(50, ("w:1", "w:2"), 1_795_435_000_000), "t2": OpenHold(0, (), 1)},
    days={
        "20261122": {SumKey("ci", "m|1", "p", "cost"): 5, SumKey("ci", "m|1", "p", "images"): 1},
        "20261123": {SumKey("ci", "m|1", "p", "cost"): -7},
    },
)


def test_nothing_is_lost_in_the_store() -> None:
    """A checkpoint is read as it was written."""
    assert WHOLE == parse_checkpoint(dict(fields_of(WHOLE)))


def test_no_hash_is_no_checkpoint() -> None:
    """A ledger that was never trimmed begins before its first entry."""
    assert NOTHING == parse_checkpoint({})


def test_fields_of_a_newer_version_are_passed_over() -> None:
    """Another replica may be a version ahead."""
    assert WHOLE == parse_checkpoint(dict(fields_of(WHOLE)) | {"mood|x": "good"})


def test_a_later_schema_is_refused() -> None:
    """What is not understood is not taken for a state of the books."""
    with pytest.raises(UnreadableCheckpointError, match="schema 2, this version reads up to 1"):
        parse_checkpoint(dict(fields_of(WHOLE)) | {"schema": "2"})
