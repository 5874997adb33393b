from decimal import Decimal
from typing import Any

import pytest

from gateway.simulator.settings import SimulatorSettings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency_median_s", -0.1),
        ("latency_sigma", -1),
        ("credits_balance", Decimal(-1)),
        ("keep_s", -1),
        ("result_keep_s", -1),
        ("files_quota", -1),
        ("files_max_bytes", -1),
        ("files_keep_s", -1),
        ("max_in_flight", 0),
        ("submits_per_second", 0),
        ("callback_timeout_s", 0),
        ("expired_status", 403),
        ("expired_result_status", 200),
    ],
)
def test_impossible_values_are_refused(name: str, value: Any) -> None:
    """An impossible value is named at once instead of failing in a render."""
    with pytest.raises(ValueError, match=name):
        SimulatorSettings(**{name: value})


def test_zero_latency_is_allowed() -> None:
    """Renders may finish at once."""
    assert SimulatorSettings(latency_median_s=0).latency_median_s == 0
