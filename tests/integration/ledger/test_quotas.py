from __future__ import annotations

from typing import Any

import pytest

from gateway.ledger.quotas import REQUESTS, Rate, rate_quota, refused_state
from gateway.store.client import Store
from gateway.store.scripts import Script, load_script

_QUOTAS = load_script("ledger/lua/quotas.lua").body

#: Takes from a rate until it refuses, all at one moment; tells the wait, and what was left.
_REFUSE = Script(
    "refuse",
    f"""#!lua
local function int(number) return string.format('%d', number) end
{_QUOTAS}
local rate = {{key = KEYS[1], limit = tonumber(ARGV[1]), units = 1}}
for _ = 1, tonumber(ARGV[2]) do
  check_rate(rate, 1000000)
  take_rate(rate, 1000000)
end
local left, whole_ms = rate.remaining or rate.limit, rate.reset_ms or 0
rate.units = tonumber(ARGV[3])
return {{check_rate(rate, 1000000), left, whole_ms}}
""",
)


@pytest.mark.parametrize(
    ("limit", "taken", "units"),
    [(120, 120, 1), (60, 58, 4), (60, 60, 1), (10, 7, 4), (1, 1, 1), (3, 0, 4)],
)
async def test_a_refusal_tells_what_the_script_would(
    store: Store, limit: int, taken: int, units: int
) -> None:
    """What is left and when all is back follow from the wait, as the script counts."""
    reply = await store.run(_REFUSE, ["rate"], [limit, taken, units])
    assert isinstance(reply, list)
    wait_ms, left, whole_ms = reply
    assert isinstance(wait_ms, int)
    state = refused_state(resource="requests", limit=limit, units=units, wait_ms=wait_ms)

    assert wait_ms > 0
    assert (left, whole_ms) == (state.remaining, state.reset_ms)


@pytest.mark.parametrize(("limit", "taken"), [(120, 7), (7, 3), (10_000, 9_999), (1, 1), (3, 0)])
async def test_what_is_used_is_what_was_taken(store: Store, limit: int, taken: int) -> None:
    """At the moment it was, and nothing of it a minute later; half a unit back is none."""
    await store.run(_REFUSE, ["rate"], [limit, taken, 1])
    kept: Any = await store.command("GET", "rate")
    rate = Rate(REQUESTS, "rate", limit, 1)

    def used(after_ms: float) -> int:
        now_ms = 1_000_000 + int(after_ms)
        return rate_quota(rate, whole_at_ms=float(kept or 0), now_ms=now_ms).used

    assert (taken, 0) == (used(0), used(60_000))
    assert taken == used(30_000 / limit if limit < 1_000 else 0)


def test_what_is_whole_resets_at_no_time() -> None:
    """And what is not, when its last unit is back."""
    rate = Rate(REQUESTS, "rate", 60, 1)
    whole, half = (
        rate_quota(rate, whole_at_ms=at_ms, now_ms=1_000_000) for at_ms in (0.0, 1_029_999.5)
    )

    assert (60, None) == (whole.remaining, whole.resets_at_ms)
    assert ("requests_per_minute", 30, 30, 1_030_000) == (
        *(half.name, half.used, half.remaining),
        half.resets_at_ms,
    )
