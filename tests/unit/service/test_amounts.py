from __future__ import annotations

from gateway.service.amounts import amount, budget_fields, optional_amount
from tests.support.clock import NOON_MS
from tests.support.factories import a_budget_state


def test_money_is_told_twice_and_never_as_a_float() -> None:
    """Decimal text for people, integer micro-dollars for programs, null for nothing."""
    assert {"usd": "0.007852", "microusd": 7_852} == amount(7_852) == optional_amount(7_852)
    assert optional_amount(None) is None


def test_a_budget_tells_what_is_left_and_when_it_resets() -> None:
    """A total never resets."""
    state = a_budget_state(
        limit_microusd=100, spent_microusd=30, held_microusd=20, resets_at_ms=NOON_MS
    )
    told = budget_fields(state)

    assert (amount(50), "2026-11-23T12:00:00Z") == (told["remaining"], told["resets_at"])
    assert ("team", "day", "day") == (told["scope"], told["name"], told["per"])
    assert budget_fields(a_budget_state())["resets_at"] is None
