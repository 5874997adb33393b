from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

import pytest

from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.assets.remote import RemoteLimits, RemotePictures
from gateway.assets.spool import Spool
from gateway.domain.errors import BadReference, InvalidRequest, StorageUnavailable
from gateway.domain.ids import TeamId
from gateway.domain.images import KeptReference, PictureFormat, Size
from gateway.domain.images import References as Made
from gateway.domain.references import reference_key
from gateway.domain.tokens import Signer
from gateway.network.clients import build_guarded_client
from gateway.network.guard import Guard
from gateway.service.links import Links
from gateway.service.references import Brought, References
from tests.support.clock import FixedClock
from tests.support.uploads import a_bomb, a_picture

TEAM = TeamId("design")

Work = Coroutine[object, object, None]


async def _sign() -> Signer:
    return Signer((b"secret",))


LINKS = Links(_sign, FixedClock(), keep_ms=3_600_000, public_url="http://gateway:8080")


@pytest.fixture
def assets(tmp_path: Path) -> ObjectAssetStore:
    """Keep pictures in a folder."""
    return ObjectAssetStore.open(AssetPlace(f"file:{tmp_path / 'assets'}"))


@pytest.fixture
def started() -> list[Work]:
    """Return what was started in the background."""
    return []


@pytest.fixture
async def references(
    assets: ObjectAssetStore, tmp_path: Path, started: list[Work]
) -> AsyncIterator[References]:
    """Take in what calls bring along."""
    guard = Guard()
    async with build_guarded_client(guard) as client:
        remote = RemotePictures(client, guard, RemoteLimits(1000, total_timeout_s=1.0))
        yield References(
            *(assets, remote, LINKS),
            spool_dir=tmp_path,
            passes_links=lambda _: False,
            random_bytes=os.urandom,
            start=lambda _, work: started.append(work),
        )


async def _brought(references: References, spool: Spool, content: bytes) -> Brought:
    file = spool.open()
    await file.write(content)
    await file.finish()
    return await references.looked_at(file, param="image", declared_type="image/png")


async def test_pictures_are_kept_by_their_bytes(
    references: References, assets: ObjectAssetStore
) -> None:
    """Under a name that is theirs, once however often they were brought."""
    picture, other = a_picture(), a_picture("WEBP", (20, 10))
    with references.spool() as spool:
        brought = [await _brought(references, spool, each) for each in (picture, other, picture)]
        await references.keep(TEAM, brought)

    first, second, third = (each.reference for each in brought)
    assert first == third == KeptReference(first.digest, PictureFormat.PNG, len(picture))
    assert (PictureFormat.WEBP, Size(20, 10)) == (second.format, brought[1].header.size)
    read = assets.read(reference_key(TEAM, second), chunk_bytes=1000)
    assert other == b"".join([chunk async for chunk in read])


async def test_what_became_no_task_goes_and_what_others_brought_stays(
    references: References, assets: ObjectAssetStore, started: list[Work]
) -> None:
    """Each call has copies of its own, of the same bytes too: nobody counts who needs them."""
    kept = []
    for _ in range(2):
        with references.spool() as spool:
            brought = await _brought(references, spool, a_picture())
            await references.keep(TEAM, [brought])
            kept.append(brought.reference)
    gone, stays = kept
    references.discard(TEAM, Made((gone, gone)))
    references.discard(TEAM, Made())
    await asyncio.gather(*started)

    assert (gone, 1) == (stays, len(started))
    assert await assets.find(reference_key(TEAM, gone)) is None
    assert await assets.find(reference_key(TEAM, stays)) is not None


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"hello", InvalidRequest, "unsupported mimetype .'application/octet-stream'."),
        (a_picture()[:20], BadReference, "broken"),
        (a_bomb(), BadReference, "pixels"),
    ],
)
async def test_what_is_no_picture(
    references: References, content: bytes, error: type[Exception], words: str
) -> None:
    """Told with the name of its field."""
    with references.spool() as spool, pytest.raises(error, match=words) as caught:
        await _brought(references, spool, content)

    assert "image" == caught.value.param  # type: ignore[attr-defined]


async def test_a_link_to_this_server_is_read_from_its_store(references: References) -> None:
    """For whoever has it, whatever name the server is called by in it; others are left alone."""
    picture = a_picture()
    with references.spool() as spool:
        brought = await _brought(references, spool, picture)
        await references.keep(TEAM, [brought])
        link = await LINKS.reference_url(TEAM, brought.reference)
        for url in (link, link.replace("gateway:8080", "pictures.example.com/images")):
            file = await references.kept_here(url, spool, param="images[0]")
            assert file is not None
            assert picture == b"".join([piece async for piece in file.chunks()])
        for url in ("https://x.example/a.png", link[:-5], link + "x", "http://[::1", "/v1/assets/"):
            assert await references.kept_here(url, spool, param="images[0]") is None


async def test_a_link_to_this_server_whose_picture_is_gone(references: References) -> None:
    """Told with the name of its field: nothing is fetched instead."""
    link = await LINKS.reference_url(TEAM, KeptReference("0" * 64, PictureFormat.PNG, 1))
    with references.spool() as spool, pytest.raises(BadReference, match=r"'images.0.'.*no longer"):
        await references.kept_here(link, spool, param="images[0]")


async def test_a_store_that_does_not_take_it(references: References, tmp_path: Path) -> None:
    """The call may be tried again: nothing was ordered."""
    (tmp_path / "assets" / "design").touch()
    with references.spool() as spool:
        brought = await _brought(references, spool, a_picture())
        with pytest.raises(StorageUnavailable):
            await references.keep(TEAM, [brought])


@pytest.mark.parametrize("url", ["http://127.0.0.1/a", "https://[::1]/a", "gopher://a/b"])
async def test_links_that_are_not_followed(references: References, url: str) -> None:
    """Whether they are fetched here or handed on, with the name of their field."""
    with references.spool() as spool:
        with pytest.raises(BadReference, match=r"'images.0.'"):
            references.check_link(url, param="images[0]")
        with pytest.raises(BadReference):
            await references.fetch(url, spool, param="images[0]")
