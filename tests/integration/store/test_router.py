from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import MovedError

from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.store.router import routing_key
from gateway.store.scripts import Script
from tests.support.stores import Cluster, Node, run_cluster, run_on_port
from tests.support.valkey import free_ports, run_valkey

COUNT = Script("count", "#!lua\nreturn redis.call('INCR', KEYS[1])")
PAIR = Script("pair", "#!lua\nredis.call('INCR', KEYS[1])\nreturn redis.call('INCR', KEYS[2])")
WHO = Script("who", "#!lua\nreturn ARGV[1]")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster of three."""
    with run_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[Store]:
    """Open the emptied cluster, knowing where everything is."""
    async with Store(cluster.url, timeout_ms=2_000) as opened:
        await opened.command_everywhere("FLUSHALL")
        yield opened


def key_of(cluster: Cluster, node: Node) -> str:
    """Return a key that this node owns."""
    keys = (f"{{t:team{number}}}:n" for number in range(100))
    return next(key for key in keys if cluster.owner(slot_of(key)) is node)


def slot_of(key: str) -> int:
    """Return the slot of a key."""
    return key_slot(key.encode())


def hand_over(cluster: Cluster, slot: int, to: Node) -> None:
    """Make a node the owner of a slot, in everybody's view, and for good.

    Word of its last owner may still be on its way between the nodes: that of the higher epoch wins.
    """
    to.run("CLUSTER", "BUMPEPOCH")
    for node in sorted(cluster.nodes, key=lambda node: node is not to):
        node.run("CLUSTER", "SETSLOT", slot, "NODE", cluster.name_of(to))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("PING",), None),
        (("HGET", "{t:x}:a", "f"), b"{t:x}:a"),
        (("GET", b"\xff"), b"\xff"),
        (("EVALSHA", "digest", 2, "{t:x}:a", "{t:x}:b", "argument"), b"{t:x}:a"),
        (("EVAL", "return 1", 0, "argument"), None),
    ],
)
def test_keys_that_route(words: tuple[str | int | bytes, ...], expected: bytes | None) -> None:
    """A script goes where its first key lives, a command where its first argument would."""
    assert expected == routing_key(words)


async def test_every_key_finds_its_node_and_scripts_run_once_on_each(
    cluster: Cluster, store: Store
) -> None:
    """A node that does not know a script is taught it; the others are not asked."""
    await store.command_everywhere("SCRIPT", "FLUSH")
    keys = [key_of(cluster, node) for node in cluster.nodes]

    assert [1, 1, 1] == [await store.run(COUNT, [key], []) for key in keys]
    assert [2, 2, 2] == [await store.run(COUNT, [key], []) for key in keys]
    assert [b"2"] * 3 == [
        node.run("GET", key) for node, key in zip(cluster.nodes, keys, strict=True)
    ]
    assert b"me" == await store.run(WHO, [], ["me"])


async def test_a_slot_that_has_moved_is_followed(cluster: Cluster, store: Store) -> None:
    """The old owner redirects, once; the script runs once, on the new one, and so does the next."""
    old, new, _ = cluster.nodes
    key = key_of(cluster, old)
    await store.run(COUNT, [key_of(cluster, new)], [])  # the new owner knows the script
    old.run("SCRIPT", "FLUSH")
    old.run("CONFIG", "RESETSTAT")
    hand_over(cluster, slot_of(key), new)
    try:
        first = await store.run(COUNT, [key], [])
        await asyncio.sleep(0.6)  # by now the store may look again who owns what
        second = await store.run(COUNT, [key], [])

        assert (1, 2) == (first, second)
        stats = old.run("INFO", "errorstats")
        assert {"count": 1} == stats["errorstat_MOVED"]  # type: ignore[index]
        assert b"2" == new.run("GET", key)
    finally:
        await store.command("DEL", key)
        hand_over(cluster, slot_of(key), old)


async def test_a_slot_on_its_way_is_asked_for_where_it_goes(cluster: Cluster, store: Store) -> None:
    """Each script runs once, however many others use the connections: ASKING counts for one."""
    old, new, _ = cluster.nodes
    key, other = key_of(cluster, old), key_of(cluster, new)
    new.run("CLUSTER", "SETSLOT", slot_of(key), "IMPORTING", cluster.name_of(old))
    old.run("CLUSTER", "SETSLOT", slot_of(key), "MIGRATING", cluster.name_of(new))
    try:
        async with Store(cluster.url, timeout_ms=5_000, max_connections=2) as narrow:
            counted = await asyncio.gather(
                *(narrow.run(COUNT, [key if one % 2 else other], []) for one in range(100))
            )

        assert sorted([*range(1, 51)] * 2) == sorted(counted)  # type: ignore[type-var]
    finally:
        hand_over(cluster, slot_of(key), new)
        await store.command("DEL", key)
        hand_over(cluster, slot_of(key), old)


async def test_a_slot_that_moves_as_a_whole_is_always_served(
    cluster: Cluster, store: Store
) -> None:
    """As Valkey 9 moves them (CLUSTER MIGRATESLOTS): no call is refused, none runs twice."""
    old, new, _ = cluster.nodes
    key = key_of(cluster, old)
    slot, pairs = slot_of(key), [(key, f"{key}:{number}") for number in range(300)]
    await asyncio.gather(*(store.run(PAIR, pair, []) for pair in pairs))
    old.run("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", cluster.name_of(new))
    arrived: object = 0
    rounds = 0
    while not arrived:
        rounds += 1
        await asyncio.gather(*(store.run(PAIR, pair, []) for pair in pairs[:5]))
        with suppress(MovedError):
            arrived = new.run("EXISTS", f"{key}:0")
        await asyncio.sleep(0.01)
    counted = await store.run(COUNT, [key], [])
    await store.command_everywhere("FLUSHALL")
    hand_over(cluster, slot, old)

    assert 300 + 5 * rounds + 1 == counted


async def test_keys_that_are_torn_apart_are_unavailable(cluster: Cluster, store: Store) -> None:
    """Half of a script's keys have moved: it does not run before the other half has."""
    old, new, _ = cluster.nodes
    key = key_of(cluster, old)
    await store.command("SET", key, 1)
    new.run("CLUSTER", "SETSLOT", slot_of(key), "IMPORTING", cluster.name_of(old))
    old.run("CLUSTER", "SETSLOT", slot_of(key), "MIGRATING", cluster.name_of(new))
    try:
        with pytest.raises(StoreUnavailable):
            await store.run(PAIR, [key, f"{key}:other"], [])

        assert b"1" == await store.command("GET", key)
    finally:
        for node in (old, new):
            node.run("CLUSTER", "SETSLOT", slot_of(key), "STABLE")


async def test_a_frozen_node_takes_only_its_own_keys_along(cluster: Cluster, store: Store) -> None:
    """Its teams are refused within the limit; all others are served at once, also meanwhile."""
    frozen, *others = cluster.nodes
    lost, *found = (key_of(cluster, node) for node in cluster.nodes)
    async with Store(cluster.url, timeout_ms=400) as hasty:
        for key in (lost, *found):
            await hasty.run(COUNT, [key], [])
        frozen.stop()
        try:
            began_s = time.monotonic()
            async with asyncio.TaskGroup() as group:
                calls = [group.create_task(_outcome(hasty, lost)) for _ in range(20)]
                served = [await _outcome(hasty, key) for _ in range(20) for key in found]
            took_s = time.monotonic() - began_s
        finally:
            frozen.cont()

    assert [b"unavailable"] * 20 == [call.result() for call in calls]
    assert [number for count in range(2, 22) for number in (count, count)] == served
    # One after another they would be unavailable after eight.
    assert took_s < 6.0
    assert len(others) == len(found)


async def test_a_node_that_is_gone_is_looked_past(cluster: Cluster, store: Store) -> None:
    """Its slots have found a new owner, of whom only the others can tell."""
    gone, heir, _ = cluster.nodes
    key = key_of(cluster, gone)
    async with Store(cluster.url, timeout_ms=400) as hasty:
        await hasty.run(COUNT, [key], [])
        await hasty.command("DEL", key)
        hand_over(cluster, slot_of(key), heir)
        gone.stop()
        try:
            outcomes = []
            for _ in range(4):
                outcomes.append(await _outcome(hasty, key))
                await asyncio.sleep(0.2)
        finally:
            gone.cont()
            await store.command("DEL", key)
            hand_over(cluster, slot_of(key), gone)

    assert b"unavailable" == outcomes[0]
    assert b"unavailable" != outcomes[-1]


async def _outcome(store: Store, key: str) -> object:
    try:
        return await store.run(COUNT, [key], [])
    except StoreUnavailable:
        return b"unavailable"


async def test_a_cluster_that_is_down_is_unavailable(cluster: Cluster, store: Store) -> None:
    """A slot that nobody serves takes the whole cluster down; it comes back by itself."""
    owner = cluster.nodes[0]
    key = key_of(cluster, owner)
    for node in cluster.nodes:
        node.run("CLUSTER", "DELSLOTS", slot_of(key))
    try:
        for asked in (key, key_of(cluster, cluster.nodes[1])):
            with pytest.raises(StoreUnavailable):
                await store.run(COUNT, [asked], [])
    finally:
        owner.run("CLUSTER", "ADDSLOTS", slot_of(key))
        cluster.wait_until_whole()

    assert 1 == await store.run(COUNT, [key], [])


async def test_any_seed_that_lives_is_enough(cluster: Cluster) -> None:
    """Addresses where nobody listens or answers do not keep the others from being found."""
    [nobody] = free_ports(1)
    first, second, _ = cluster.nodes
    hosts = f"127.0.0.1:{nobody},127.0.0.1:{first.port},127.0.0.1:{second.port}"
    key = key_of(cluster, second)
    first.stop()
    try:
        async with Store(f"redis+cluster://{hosts}", timeout_ms=1_000) as store:
            assert b"me" == await store.run(WHO, [key], ["me"])
    finally:
        first.cont()


async def test_a_server_without_cluster_mode_is_no_cluster(tmp_path: Path) -> None:
    """The wrong scheme is unavailable, and not a server that happens to work."""
    [port] = free_ports(1)
    with run_on_port(tmp_path, port, ()):
        async with Store(f"redis+cluster://127.0.0.1:{port}", timeout_ms=1_000) as store:
            with pytest.raises(StoreUnavailable):
                await store.ping()


async def test_a_node_of_a_cluster_by_itself_is_unavailable(cluster: Cluster) -> None:
    """Without the scheme of a cluster no redirection is followed."""
    first, second, _ = cluster.nodes
    async with Store(f"redis://127.0.0.1:{first.port}", timeout_ms=1_000) as store:
        with pytest.raises(StoreUnavailable):
            await store.run(COUNT, [key_of(cluster, second)], [])


async def test_a_name_that_leads_elsewhere_after_a_failover_is_followed(tmp_path: Path) -> None:
    """A demoted server is left at once: its connections would stay open for ever."""
    name = tmp_path / "primary.sock"
    with run_valkey(tmp_path / "old") as old, run_valkey(tmp_path / "new") as new:
        name.symlink_to(tmp_path / "old" / "valkey.sock")
        async with Store(f"unix://{quote(str(name))}", timeout_ms=1_000) as store:
            await asyncio.gather(*(store.run(COUNT, ["n"], []) for _ in range(5)))
            name.unlink()
            name.symlink_to(tmp_path / "new" / "valkey.sock")
            with Redis.from_url(old.url) as demoted:
                demoted.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreUnavailable):
                await store.run(COUNT, ["n"], [])

            assert 1 == await store.run(COUNT, ["n"], [])
    assert old.url != new.url
