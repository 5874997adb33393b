from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.domain.ids import TeamId
from gateway.domain.images import KeptReference, LinkedReference, PictureFormat, References
from gateway.domain.references import reference_key
from gateway.domain.task import FailureKind, SubmitOrder
from gateway.providers.interface import FileToUpload, Uploaded, UploadFailed, UploadOutcome
from gateway.store.client import Store
from gateway.tasks.reference_links import NoLinkError, StoredReferenceLinks
from tests.support.clock import NOON_MS, FixedClock

TEAM = TeamId("design")
HOUR_MS = 3_600_000


@dataclass
class Files:
    """A file service that remembers what it was given."""

    answers: list[UploadFailed] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)
    kept_ms: int = 72 * HOUR_MS
    slow_s: float = 0.0

    def use_key(self, api_key: str) -> None:
        """Never told."""
        raise AssertionError(api_key)

    async def upload(self, file: FileToUpload) -> UploadOutcome:
        """Read the file; fail once for each answer."""
        content = b"".join([chunk async for chunk in file.chunks])
        await asyncio.sleep(self.slow_s)
        if self.answers:
            return self.answers.pop(0)
        assert len(content) == file.size_bytes
        self.taken.append(content)
        return Uploaded(f"https://files/{len(self.taken)}", NOON_MS + self.kept_ms)


@dataclass
class House:
    """Links of one replica over a store, and what lies in the asset store."""

    links: StoredReferenceLinks
    files: Files
    assets: ObjectAssetStore

    async def kept(
        self, content: bytes, team: TeamId = TEAM, *, place: str = "call1"
    ) -> KeptReference:
        """Put a reference where replicas find it."""
        digest = hashlib.sha256(content).hexdigest()

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        reference = KeptReference(digest, PictureFormat.PNG, len(content), place=place)
        await self.assets.put(reference_key(team, reference), chunks())
        return reference


def order_of(references: References, *, provider: str = "evolink") -> SubmitOrder:
    """Return an order that is made from these."""
    return SubmitOrder(provider, f"{provider}:1", {"prompt": "a fox"}, references)


async def _make_link(team: TeamId, reference: KeptReference) -> str:
    return f"https://gateway/{team}/{reference.digest}"


def a_house(store: Store, folder: Path, files: Files | None = None) -> House:
    """Open a replica."""
    assets, files = ObjectAssetStore.open(AssetPlace(f"file:{folder}")), files or Files()
    links = StoredReferenceLinks(
        store,
        assets,
        FixedClock(),
        services={"evolink": files},
        make_link=_make_link,
        random_bytes=os.urandom,
        valid_ms=HOUR_MS,
    )
    return House(links, files, assets)


async def test_links_are_in_the_order_of_the_references(store: Store, tmp_path: Path) -> None:
    """With the mask last; links of clients are handed on, and equal files go up once."""
    house = a_house(store, tmp_path)
    one, two = await house.kept(b"one"), await house.kept(b"two")
    linked = LinkedReference("https://a.example/a.png")
    urls = await house.links.urls(TEAM, order_of(References((one, linked, two, one), mask=two)))

    assert {b"one", b"two"} == {*house.files.taken}
    assert 2 == len(house.files.taken)
    where = {content: f"https://files/{at}" for at, content in enumerate(house.files.taken, 1)}
    first, second = where[b"one"], where[b"two"]
    assert (first, linked.url, second, first, second) == urls


async def test_the_same_bytes_go_up_once(store: Store, tmp_path: Path) -> None:
    """For whichever replica, one after the other or at the same time; once for each team."""
    files = Files(slow_s=0.15)
    here, there = a_house(store, tmp_path, files), a_house(store, tmp_path, files)
    order = order_of(References((await here.kept(b"one"),)))
    together = await asyncio.gather(
        *(house.links.urls(TEAM, order) for house in (here, there, here, there))
    )
    later = await there.links.urls(TEAM, order)

    assert [b"one"] == files.taken
    assert {("https://files/1",)} == {*together, later}
    other = TeamId("others")
    await here.kept(b"one", other)
    await here.links.urls(other, order)
    assert 2 == len(files.taken)


async def test_a_link_that_ends_too_soon_is_not_used_again(store: Store, tmp_path: Path) -> None:
    """It must outlive the wait of an order; this one is good for the order it was made for."""
    house = a_house(store, tmp_path, Files(kept_ms=HOUR_MS // 2))
    order = order_of(References((await house.kept(b"one"),)))
    urls = [await house.links.urls(TEAM, order) for _ in range(2)]

    assert [("https://files/1",), ("https://files/2",)] == urls


async def test_links_that_were_no_use_are_forgotten(store: Store, tmp_path: Path) -> None:
    """A file that the upstream does not find is brought up anew."""
    house = a_house(store, tmp_path)
    order = order_of(References((await house.kept(b"one"), LinkedReference("https://a/b"))))
    await house.links.urls(TEAM, order)
    await house.links.forget(TEAM, order)
    await house.links.urls(TEAM, order)

    assert 2 == len(house.files.taken)
    await house.links.forget(TEAM, order_of(References((LinkedReference("https://a/b"),))))


async def test_what_nobody_will_need_again_is_removed(store: Store, tmp_path: Path) -> None:
    """Of this call, and of no other one with the same bytes; nor of an older gateway's."""
    house = a_house(store, tmp_path)
    mine, mask = await house.kept(b"one"), await house.kept(b"two")
    others = [await house.kept(b"one", place=place) for place in ("call2", "")]
    linked = LinkedReference("https://a/b")
    await house.links.drop(TEAM, References((mine, linked, mine), mask=mask))
    await house.links.drop(TEAM, References((others[1],)))

    keys = [reference_key(TEAM, each) for each in (mine, mask, *others)]
    assert [False, False, True, True] == [await house.assets.find(key) is not None for key in keys]
    assert [b"one"] == [
        await house.links.urls(TEAM, order_of(References((others[0],)))) and house.files.taken[0]
    ]


async def test_what_cannot_be_removed_is_left_to_a_sweep(store: Store, tmp_path: Path) -> None:
    """A store of pictures that is down is no reason to fail."""
    house = a_house(store, tmp_path / "assets")
    mine = await house.kept(b"one")
    (tmp_path / "assets").rename(tmp_path / "away")
    (tmp_path / "assets").touch()
    await house.links.drop(TEAM, References((mine,)))

    (tmp_path / "assets").unlink()
    (tmp_path / "away").rename(tmp_path / "assets")
    assert await house.assets.find(reference_key(TEAM, mine)) is not None


async def test_an_upload_that_fails_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    """Its reason is told, and the next try begins at once."""
    house = a_house(store, tmp_path)
    house.files.answers = [UploadFailed(FailureKind.AUTH, "HTTP 401")]
    order = order_of(References((await house.kept(b"one"),)))
    with pytest.raises(NoLinkError, match="HTTP 401") as caught:
        await house.links.urls(TEAM, order)

    assert FailureKind.AUTH is caught.value.kind
    async with asyncio.timeout(60):
        assert ("https://files/1",) == await house.links.urls(TEAM, order)


async def test_whoever_was_killed_while_uploading_is_not_waited_for(
    store: Store, tmp_path: Path
) -> None:
    """Its claim runs out; then the file is brought up by whoever needs it."""
    house = a_house(store, tmp_path)
    reference = await house.kept(b"one")
    key = f"{{t:design}}:upload:evolink:1:{reference.digest}"
    await store.command("SET", key, "claim:dead", "PX", "300")
    async with asyncio.timeout(60):
        urls = await house.links.urls(TEAM, order_of(References((reference,))))

    assert ("https://files/1",) == urls
    left_ms = await store.command("PTTL", key)
    assert isinstance(left_ms, int)
    assert 71 * HOUR_MS < left_ms <= 72 * HOUR_MS


async def test_providers_without_a_file_service_get_links_of_ours(
    store: Store, tmp_path: Path
) -> None:
    """Nothing is uploaded for them."""
    house = a_house(store, tmp_path)
    order = order_of(References((await house.kept(b"one"),)), provider="other")
    [url] = await house.links.urls(TEAM, order)

    assert url == await _make_link(TEAM, order.references.pictures[0])  # type: ignore[arg-type]
    assert [] == house.files.taken
