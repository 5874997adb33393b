"""Deleting a picture: first its file, then what is written of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from gateway.assets.interface import AssetUnavailableError
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.domain.errors import InternalError, NotFound, TaskRunning
from gateway.domain.images import KeptReference, PictureFormat, References, StoredPicture
from gateway.domain.references import reference_key
from gateway.domain.task import Task, picture_key
from gateway.ledger.holds import user_hash
from gateway.service import deletion
from gateway.service.deletion import Deletion, Purged
from gateway.store.client import Store
from gateway.store.keyspace import upload_key
from gateway.tasks.forgetting import Forgetting
from gateway.tasks.interface import Admission, ShelfNote
from tests.support.factories import an_admission
from tests.support.journal import a_journal, admitted, finished, keys_in, submitted

TEAM = an_admission().caller.team.id


class Broken(ObjectAssetStore):
    """A store of pictures from which nothing can be removed."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Fail."""
        raise AssetUnavailableError(str(keys))


@pytest.fixture
def assets() -> ObjectAssetStore:
    """Return an empty store."""
    return ObjectAssetStore.open(AssetPlace("memory:"))


async def stream() -> AsyncIterator[bytes]:
    """Yield a picture."""
    yield b"png"


async def made(
    store: Store,
    assets: ObjectAssetStore,
    task: str,
    *,
    noted: bool = True,
    admission: Admission | None = None,
) -> Task:
    """Make a picture for the end user `ada`."""
    journal = a_journal(store)
    admission = replace(admission or an_admission(task), subject=user_hash(TEAM, "ada"))
    written = (await admitted(journal, admission)).task
    ended = await journal.conclude(written, await submitted(journal, written), finished())
    key = picture_key(TEAM, written.id, 0)
    await assets.put(key, stream())
    if noted:
        await journal.shelve(TEAM, {written.id: ShelfNote({"0": "png 3"})})
    assert ended.render.result is not None
    stored = StoredPicture(key, 3, written.output.format)
    return written.with_render(
        replace(ended.render, result=replace(ended.render.result, stored=stored))
    )


def deleting(store: Store, assets: ObjectAssetStore) -> Deletion:
    """Return what deletes from a journal and a store."""
    return Deletion(a_journal(store).read, Forgetting(store), assets)


async def test_a_picture_and_its_record_go_together(store: Store, assets: ObjectAssetStore) -> None:
    """Once; after that there is no such task."""
    task = await made(store, assets, "task1")
    await deleting(store, assets).delete(TEAM, task.id)

    assert await assets.find(picture_key(TEAM, task.id, 0)) is None
    with pytest.raises(NotFound):
        await deleting(store, assets).delete(TEAM, task.id)


async def test_what_an_edit_was_made_from_goes_too(store: Store, assets: ObjectAssetStore) -> None:
    """What a killed gateway has left of it, and what is known of it at the upstream."""
    mine, other = (KeptReference("0a" * 32, PictureFormat.PNG, 3, place=place) for place in "12")
    for each in (mine, other):
        await assets.put(reference_key(TEAM, each), stream())
    await store.command("SET", upload_key(TEAM, "evolink:1", mine.digest), "url:https://files/1")
    admission = an_admission("task1")
    order = replace(admission.order, account="evolink:1", references=References((mine,)))
    task = await made(store, assets, "task1", admission=replace(admission, order=order))
    await deleting(store, assets).delete(TEAM, task.id)

    assert await assets.find(reference_key(TEAM, mine)) is None
    assert await assets.find(reference_key(TEAM, other)) is not None
    assert [] == await keys_in(store, "*:upload:*")


async def test_a_picture_that_cannot_be_removed_keeps_its_record(store: Store) -> None:
    """Else nobody would know any more that there is something to remove."""
    broken = Broken.open(AssetPlace("memory:"))
    task = await made(store, broken, "task1")

    with pytest.raises(InternalError):
        await deleting(store, broken).delete(TEAM, task.id)
    assert await a_journal(store).read(TEAM, task.id) is not None


async def test_a_note_on_its_way_is_waited_for_and_a_running_task_is_not(
    store: Store, assets: ObjectAssetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nothing is known of but that it is not over is refused, and nothing of it is removed."""
    monkeypatch.setattr(deletion, "NOTED_WITHIN_S", 0.4)
    task = await made(store, assets, "task1", noted=False)
    running = (await admitted(a_journal(store), an_admission("task2"))).task

    for each in (task, running):
        with pytest.raises(TaskRunning):
            await deleting(store, assets).delete(TEAM, each.id)
    assert await assets.find(picture_key(TEAM, task.id, 0)) is not None
    await a_journal(store).shelve(TEAM, {task.id: ShelfNote({"0": "png 3"})})
    await deleting(store, assets).delete(TEAM, task.id)


async def test_all_of_an_end_user_goes(store: Store, assets: ObjectAssetStore) -> None:
    """And nothing of others; what runs is told."""
    for name in ("task1", "task2"):
        await made(store, assets, name)
    journal = a_journal(store)
    admission = replace(an_admission("task3"), subject=user_hash(TEAM, "ada"))
    running = (await admitted(journal, admission)).task
    await admitted(journal, replace(an_admission("task4"), subject=user_hash(TEAM, "bob")))

    purged = await deleting(store, assets).purge(TEAM, "ada")

    assert Purged(2, (running.id,)) == purged
    assert Purged(0, ()) == await deleting(store, assets).purge(TEAM, "nobody")
