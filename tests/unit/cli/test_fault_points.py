from __future__ import annotations

import pytest

from gateway.cli.fault_points import fault_point


def test_without_a_fault_nothing_happens() -> None:
    """Every point is passed."""
    fault_point("")("submitting")


@pytest.mark.parametrize("spec", ["explode:submitting", "kill:submitting:soon", "submitting"])
def test_a_fault_that_does_not_exist_is_refused(spec: str) -> None:
    """A mistyped one must not look like a test that passed."""
    with pytest.raises(ValueError, match="kill:submitting"):
        fault_point(spec)


def test_other_points_and_arrivals_are_passed() -> None:
    """Only the named point counts, and only from the named arrival on."""
    reached = fault_point("kill:posted:2")
    reached("submitting")
    reached("posted")
    reached("submitted")
