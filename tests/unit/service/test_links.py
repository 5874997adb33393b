from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from gateway.domain.images import PictureFormat, StoredPicture
from gateway.domain.task import RenderState, Task
from gateway.domain.tokens import Purpose, Signer
from gateway.service.links import LinkedPicture, Links
from tests.support.clock import NOON_MS, FixedClock
from tests.support.factories import a_picture_in_store, a_render, a_result, a_task

KEEP_MS = 86_400_000
SIGNER = Signer((b"secret",))


def links(
    clock: FixedClock | None = None, *, signer: Signer = SIGNER, public_url: str = ""
) -> Links:
    """Make links that are good for a day."""

    async def sign() -> Signer:
        return signer

    return Links(sign, clock or FixedClock(), keep_ms=KEEP_MS, public_url=public_url)


def ended(*pictures: StoredPicture | None) -> Task:
    """Build a task that ended at noon with these pictures; None is a render that failed."""
    renders = [
        a_render(index, state=RenderState.COMPLETED, result=a_result(stored=picture))
        for index, picture in enumerate(pictures)
    ]
    return replace(a_task(*renders), ended_ms=NOON_MS)


def token_of(url: str) -> str:
    """Return the last part of a link."""
    return url.rpartition("/")[2]


async def test_each_picture_has_its_link() -> None:
    """In order, without those that failed; each opens its own picture with its own format."""
    second = replace(a_picture_in_store(2), format=PictureFormat.JPEG)
    made = links()
    urls = await made.urls(ended(a_picture_in_store(0), None, second), "http://gateway:8080/")
    opened = [await made.opened(token_of(url)) for url in urls]

    assert [".png", ".jpeg"] == [url[url.rindex(".") :] for url in urls]
    assert all(url.startswith("http://gateway:8080/v1/assets/") for url in urls)
    assert opened == [
        LinkedPicture(a_picture_in_store(0).key, PictureFormat.PNG, 86_400),
        LinkedPicture(second.key, PictureFormat.JPEG, 86_400),
    ]


async def test_the_configured_address_wins() -> None:
    """Where others reach the server is for the operator to say."""
    made = links(public_url="https://pictures.example.com/")
    [url] = await made.urls(ended(a_picture_in_store()), "http://evil.example/")

    assert url.startswith("https://pictures.example.com/v1/assets/")


async def test_links_are_the_same_whenever_they_are_made() -> None:
    """They count from the end of the task, so that a client that polls again sees no change."""
    clock = FixedClock()
    before = await links(clock).urls(ended(a_picture_in_store()), "http://g")
    clock.advance(3600)

    assert before == await links(clock).urls(ended(a_picture_in_store()), "http://g")


async def test_a_link_ends_with_its_picture() -> None:
    """It opens until the last second, and says how many are left."""
    clock = FixedClock()
    made = links(clock)
    [url] = await made.urls(ended(a_picture_in_store()), "http://g")
    clock.advance(KEEP_MS / 1000 - 1)
    last = await made.opened(token_of(url))
    clock.advance(1)
    over = await made.opened(token_of(url))

    assert last is not None
    assert over is not None
    assert (1, 0) == (last.left_s, over.left_s)


async def test_a_task_that_has_not_been_written_down_counts_from_now() -> None:
    """Its end is not known for a moment; the link is good for as long."""
    made = links()
    [url] = await made.urls(replace(ended(a_picture_in_store()), ended_ms=0), "http://g")
    opened = await made.opened(token_of(url))

    assert opened is not None
    assert opened.left_s == 86_400


async def test_without_pictures_no_secret_is_read() -> None:
    """A task that has none asks the store for nothing."""

    async def sign() -> Signer:
        raise AssertionError

    made = Links(sign, FixedClock(), keep_ms=KEEP_MS, public_url="")

    assert await made.urls(ended(None), "http://g") == ()


async def test_the_ending_is_not_needed() -> None:
    """It is for clients that name files after links; the signature covers what counts."""
    [url] = await links().urls(ended(a_picture_in_store()), "http://g")
    bare = token_of(url).removesuffix(".png")

    assert await links().opened(bare) == await links().opened(f"{bare}.png")
    assert await links().opened(bare) is not None


@pytest.mark.parametrize("ending", [".gif", ".", ".png.png", ".PNG", "x", "%00"])
async def test_other_endings_open_nothing(ending: str) -> None:
    """A link is the one that was given, or none."""
    [url] = await links().urls(ended(a_picture_in_store()), "http://g")

    assert await links().opened(token_of(url).removesuffix(".png") + ending) is None


async def test_what_is_forged_opens_nothing() -> None:
    """Neither another's signature, nor another purpose, nor a changed payload, nor rubbish."""
    payload = f"{NOON_MS // 1000 + 60}/png/design/imgtask_0/0"
    good = SIGNER.token(Purpose.ASSET, payload)
    longer = base64.urlsafe_b64encode(payload.replace("60/", "99/", 1).encode()).decode()
    forged = [
        Signer((b"other",)).token(Purpose.ASSET, payload),
        SIGNER.token(Purpose.CALLBACK, payload),
        f"{longer.rstrip('=')}.{good.partition('.')[2]}",
        good[:-1],
        "",
        ".png",
        "ä.ö",
    ]

    assert await links().opened(good) is not None
    assert [None] * len(forged) == [await links().opened(token) for token in forged]


async def test_links_of_a_rotated_secret_stay_good() -> None:
    """A new secret signs; what the old one signed opens as long as it is believed."""
    old, both = Signer((b"old",)), Signer((b"new", b"old"))
    [url] = await links(signer=old).urls(ended(a_picture_in_store()), "http://g")

    assert await links(signer=both).opened(token_of(url)) is not None
    assert await links(signer=Signer((b"new",))).opened(token_of(url)) is None
