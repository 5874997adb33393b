"""Replicas that keep pictures where others do not find them, on the real store."""

from __future__ import annotations

import pytest

from gateway.background import SystemClock
from gateway.config.problems import ConfigError
from gateway.domain.errors import StoreUnavailable
from gateway.store.client import Store
from gateway.tasks.neighbours import Neighbours
from gateway.tasks.replica import Replica

LEASE_S = 0.5


def a_neighbour(store: Store, name: str, place: str) -> tuple[Neighbours, Replica]:
    """Return a replica that keeps pictures in a place, and what it knows of the others."""
    replica = Replica(store, SystemClock(), id=name, lease_s=LEASE_S)
    return Neighbours(store, replica, place=place, problem="elsewhere"), replica


def keep_alive(living: Replica, beside: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one replica renew whenever another one does, however slow this machine is."""
    renew = beside.renew

    async def both() -> None:
        await living.renew()
        await renew()

    monkeypatch.setattr(beside, "renew", both)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for anything."""

    async def never(delay_s: float) -> None:
        raise AssertionError(delay_s)

    monkeypatch.setattr("gateway.tasks.neighbours.asyncio.sleep", never)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("other", ["here", ""])
async def test_those_who_keep_pictures_in_the_same_place(store: Store, other: str) -> None:
    """And those of whom nobody says that they do not: at once, and side by side."""
    for name, place in (("one", "here"), ("two", other)):
        await a_neighbour(store, name, place)[0].check()


async def test_one_that_lives_and_is_elsewhere_is_a_reason_not_to_start(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is named; and whoever did not start is not counted among the replicas."""
    one, living = a_neighbour(store, "one", "here")
    await one.check()
    two, replica = a_neighbour(store, "two", "there")
    keep_alive(living, replica, monkeypatch)
    with pytest.raises(ConfigError, match=r"assets\.url: elsewhere"):
        await two.check()
    await living.renew()

    assert frozenset() == living.others


async def test_one_that_was_killed_is_waited_out(store: Store) -> None:
    """A gateway that is started again elsewhere, after a crash, comes up a lease later."""
    await a_neighbour(store, "killed", "here")[0].check()

    await a_neighbour(store, "again", "there")[0].check()


@pytest.mark.usefixtures("at_once")
async def test_older_gateways_say_nothing(store: Store) -> None:
    """They do not keep newer ones from starting."""
    await a_neighbour(store, "older", "")[1].renew()

    await a_neighbour(store, "newer", "here")[0].check()


async def test_what_cannot_be_looked_at_yet_is_looked_at_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is down at the start is asked again; then it may still be a reason to end."""
    one, living = a_neighbour(store, "one", "here")
    await one.check()
    two, replica = a_neighbour(store, "two", "there")
    keep_alive(living, replica, monkeypatch)
    command, down = store.command, [StoreUnavailable()] * 2

    async def failing(*parts: str | int) -> object:
        if down:
            raise down.pop()
        return await command(*parts)

    monkeypatch.setattr(store, "command", failing)
    monkeypatch.setattr("gateway.tasks.neighbours.ASK_AGAIN_S", 0.01)
    with pytest.raises(ConfigError):
        await two.run()

    assert [] == down
