from __future__ import annotations

import pytest

from gateway.tasks.heralds import LOOKED_AT, PROVEN_BY, Heralds


@pytest.mark.parametrize(
    ("announced", "trusted"),
    [
        ([], False),
        ([True] * (PROVEN_BY - 1), False),
        ([True] * PROVEN_BY, True),
        ([True] * 9 + [False], True),
        ([True] * 8 + [False] * 2, False),
        # Callbacks that stop: four of the newest are enough.
        ([True] * LOOKED_AT + [False] * 3, True),
        ([True] * LOOKED_AT + [False] * 4, False),
        # Callbacks that begin: what was before is forgotten.
        ([False] * LOOKED_AT + [True] * LOOKED_AT, True),
    ],
)
def test_callbacks_are_trusted_while_they_come(announced: list[bool], *, trusted: bool) -> None:
    """For each provider by itself, from its newest ends."""
    heralds = Heralds()
    for each in announced:
        heralds.note("evolink", announced=each)

    assert trusted is heralds.trusted("evolink")
    assert not heralds.trusted("another")
