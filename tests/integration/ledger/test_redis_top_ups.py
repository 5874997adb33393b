from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.access.redis_accounts import RedisAccounts
from gateway.ledger.audit import trim, verify
from gateway.ledger.interface import ToppedUp, TopUp, TopUpRefusedError
from gateway.ledger.redis_books import RedisBooks
from gateway.ledger.redis_top_ups import RedisTopUps
from gateway.store.client import Store
from gateway.store.keyspace import budget_window_key
from tests.support.ledger import TEAM, TOTAL_WINDOW

ORDER = TopUp(
    id="t1",
    team=TEAM,
    owner="",
    budget="prepaid",
    delta_microusd=100_000_000,
    note="invoice 17",
    by="cli:kim",
)


@pytest.fixture
def top_ups(store: Store) -> RedisTopUps:
    """Open top-ups on the emptied store."""
    return RedisTopUps(store)


async def _paid_in(store: Store, key: str = TOTAL_WINDOW) -> int:
    reply = await store.command("HGET", key, "topped_up")
    assert isinstance(reply, bytes)
    return int(reply)


async def test_a_top_up_is_in_the_budget_the_ledger_and_the_audit(
    top_ups: RedisTopUps, store: Store
) -> None:
    """With who and why in both, and the books agree with it."""
    done = await top_ups.top_up(ORDER)
    [raw] = [raw async for raw in RedisBooks(store).entries(TEAM)]
    [line] = await RedisAccounts(store).audit(TEAM, count=9)

    assert (100_000_000, ToppedUp(raw.id, 100_000_000)) == (await _paid_in(store), done)
    assert {
        "verb": "top_up",
        "op": "top_up:t1",
        "delta": "100000000",
        "windows": f'["{TOTAL_WINDOW}"]'.replace("/", "\\/"),
        "key": "",
        "reason": "invoice 17",
        "by": "cli:kim",
    } == raw.fields
    after = {"budget": "prepaid", "usd": "100.00", "note": "invoice 17", "id": "t1"}
    assert ("cli:kim", "top_up", "", None, after) == (
        *(line.who, line.what, line.key),
        *(line.before, line.after),
    )
    assert () == (await verify(RedisBooks(store), TEAM)).findings


async def test_a_top_up_is_booked_once(top_ups: RedisTopUps, store: Store) -> None:
    """Repeating it changes nothing, also when the ledger was trimmed meanwhile."""
    first = await top_ups.top_up(ORDER)
    books = RedisBooks(store)
    await trim(books, TEAM, upto=first.entry_id, name="x")
    again = await top_ups.top_up(ORDER)
    second = await top_ups.top_up(replace(ORDER, id="t2"))

    assert (first, 200_000_000) == (again, second.topped_up_microusd)
    assert 200_000_000 == await _paid_in(store)
    assert 2 == len(await RedisAccounts(store).audit(TEAM, count=9))
    assert () == (await verify(books, TEAM)).findings


async def test_a_keys_budget(top_ups: RedisTopUps, store: Store) -> None:
    """Is another window than the team's."""
    await top_ups.top_up(replace(ORDER, owner="ci"))

    assert 100_000_000 == await _paid_in(store, budget_window_key(TEAM, "key", "ci", "prepaid", 0))
    assert 0 == await store.command("EXISTS", TOTAL_WINDOW)


@pytest.mark.parametrize("delta", [-100_000_001, 2**53 - 1])
async def test_what_does_not_fit(top_ups: RedisTopUps, store: Store, delta: int) -> None:
    """No more is taken back than was paid in, and no more paid in than Lua counts exactly."""
    await top_ups.top_up(ORDER)
    with pytest.raises(TopUpRefusedError) as refusal:
        await top_ups.top_up(replace(ORDER, id="t2", delta_microusd=delta))
    back = await top_ups.top_up(replace(ORDER, id="t2", delta_microusd=-100_000_000))

    assert (100_000_000, 0) == (refusal.value.topped_up_microusd, back.topped_up_microusd)
    assert () == (await verify(RedisBooks(store), TEAM)).findings
