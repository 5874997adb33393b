from __future__ import annotations

import pytest
from redis import Redis

from gateway.store.client import Store
from gateway.store.migration import Kind, Record, migrate, read_record
from tests.support.valkey import ValkeyProcess

KEY = "{t:design}:record"


def schemas_of(record: Record) -> tuple[int, ...]:
    """Return the schema that a record says."""
    return (int(record["schema"]),)


def renamed(record: Record) -> Record:
    """From 1 to 2: `colour` was called `color`."""
    rest = {name: value for name, value in record.items() if name != "color"}
    return {**rest, "colour": record["color"], "schema": "2"}


def counted(record: Record) -> Record:
    """From 2 to 3: there is one of it."""
    return {**record, "count": "1", "schema": "3"}


KIND = Kind("things", 3, schemas_of, {1: renamed, 2: counted})
OLD = ("schema", "1", "color", "red", "note", "as it was")
NEW = {"schema": "3", "colour": "red", "note": "as it was", "count": "1"}


async def test_steps_follow_each_other(store: Store) -> None:
    """From whatever schema it has; what a step does not touch stays, and so does its expiry."""
    await store.command("HSET", KEY, *OLD)
    await store.command("PEXPIRE", KEY, 3_600_000)
    first, again = await migrate(store, KIND, KEY), await migrate(store, KIND, KEY)
    left_ms = await store.command("PTTL", KEY)
    await store.command("HSET", KEY, "schema", "2")
    await store.command("HDEL", KEY, "count")
    later = await migrate(store, KIND, KEY)

    assert (True, False, True) == (first, again, later)
    assert NEW == await read_record(store, KEY)
    assert isinstance(left_ms, int)
    assert 3_500_000 < left_ms <= 3_600_000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("HSET", KEY, "color", "blue"), NEW | {"colour": "blue"}),
        (("HSET", KEY, "added", "meanwhile"), NEW | {"added": "meanwhile"}),
        (("DEL", KEY), {}),
    ],
)
async def test_whoever_changes_a_record_meanwhile_wins(
    store: Store, valkey_process: ValkeyProcess, change: tuple[str, ...], expected: Record
) -> None:
    """The step is made anew from what is there then; what was deleted stays so."""
    await store.command("HSET", KEY, *OLD)
    changes = [change]

    def slow(record: Record) -> Record:
        with Redis.from_url(valkey_process.url) as other:
            while changes:
                other.execute_command(*changes.pop())
        return renamed(record)

    kind = Kind("things", 3, schemas_of, {1: slow, 2: counted})

    assert bool(expected) is await migrate(store, kind, KEY)
    assert expected == await read_record(store, KEY)


async def test_what_is_not_there_is_not_made(store: Store) -> None:
    """A record that is gone stays so."""
    assert not await migrate(store, KIND, KEY)
    assert 0 == await store.command("EXISTS", KEY)


def test_steps_lead_from_as_far_as_there_is_no_gap() -> None:
    """A step that nothing follows is none."""
    assert 1 == KIND.oldest
    assert 3 == Kind("things", 3, schemas_of, {1: renamed}).oldest
