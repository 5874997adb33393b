from __future__ import annotations

import orjson
import pytest

from gateway.domain.ids import TeamId
from gateway.domain.tokens import Signer
from gateway.service.callbacks import Callbacks, Heard, claimed_id
from gateway.store.client import Store
from gateway.tasks.wake import Kind, Message, Wake
from tests.support.factories import a_task, an_admission
from tests.support.journal import a_journal, admitted, failed, submitted

BODY = orjson.dumps({"id": "task-unified-1", "status": "completed"})


async def a_signer() -> Signer:
    """Sign with the server's secret."""
    return Signer((b"s",))


class Desk:
    """Callbacks to a replica named as the owner of tasks, and what it was told."""

    def __init__(self, store: Store) -> None:
        self.journal = a_journal(store)
        self.heard: list[Message] = []
        self.counted: list[str] = []
        wake = Wake(store, id="replica_1")
        wake.listen(self.heard.append)
        self.callbacks = Callbacks(
            self.journal, wake, a_signer, "https://gateway.test", self.counted.append
        )


@pytest.fixture
def desk(store: Store) -> Desk:
    """Hear callbacks."""
    return Desk(store)


def token_of(url: str) -> str:
    """Return the token of a callback's address."""
    return url.rpartition("/")[2]


async def test_the_owner_of_a_running_task_is_woken(desk: Desk) -> None:
    """It hears which render it is about, and which id was claimed for it."""
    task = (await admitted(desk.journal, an_admission("task1", images=2))).task
    url = await desk.callbacks.url(task, 1)
    heard = await desk.callbacks.hear(token_of(url), BODY)

    assert url.startswith("https://gateway.test/v1/callbacks/evolink/")
    assert (Heard.WOKE, ["woke"]) == (heard, desk.counted)
    assert [Message(Kind.CALLED_BACK, TeamId("design"), task.id, 1, "task-unified-1")] == desk.heard


async def test_a_task_that_is_over_wakes_nobody(desk: Desk) -> None:
    """Late ones, and those of tasks that are no longer kept, are counted as such."""
    task = (await admitted(desk.journal, an_admission("task1"))).task
    await desk.journal.conclude(task, await submitted(desk.journal, task), failed())
    for late in (task, a_task()):
        heard = await desk.callbacks.hear(token_of(await desk.callbacks.url(late, 0)), BODY)

        assert Heard.LATE == heard
    assert [] == desk.heard


async def test_a_forged_token_is_told_apart(desk: Desk) -> None:
    """It names no task, whatever it says."""
    assert Heard.FORGED == await desk.callbacks.hear("abc.def", BODY)


@pytest.mark.parametrize(
    ("body", "claimed"),
    [
        (BODY, "task-unified-1"),
        (b"", ""),
        (b"{", ""),
        (b"[]", ""),
        (b'{"id": 7}', ""),
        (b'{"id": "%s"}' % (b"x" * 201), ""),
    ],
)
def test_claimed_ids(body: bytes, claimed: str) -> None:
    """Only what could be an upstream's id is handed on."""
    assert claimed == claimed_id(body)
