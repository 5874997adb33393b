from __future__ import annotations

import pytest

from gateway.ledger.quotas import refused_state
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
