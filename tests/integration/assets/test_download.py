import os
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.assets.download import Download, FetchSettings
from gateway.assets.interface import LinkDeadError, LinkUnavailableError
from gateway.background import SystemClock
from gateway.network.clients import build_fetch_client
from tests.support.shaky_host import ShakyHost, shaky_host
from tests.support.sockets import RawServer

#: A picture as far as anybody here looks at it.
PICTURE = b"\x89PNG\r\n\x1a\n" + os.urandom(200_000)
HALF = len(PICTURE) // 2


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Return the client that fetches pictures."""
    async with build_fetch_client() as built:
        yield built


async def fetched(client: httpx.AsyncClient, server: RawServer) -> bytes:
    """Download what a host serves."""
    settings = FetchSettings(frozenset({server.host}), allow_http=True, idle_timeout_s=0.5)
    download = await Download.open(client, f"{server.url}/a.png", settings, SystemClock())
    try:
        return b"".join([chunk async for chunk in download.chunks()])
    finally:
        await download.aclose()


async def test_what_broke_off_is_asked_for_the_rest(client: httpx.AsyncClient) -> None:
    """Nothing that has arrived is sent again, and only the same picture is gone on with."""
    async with shaky_host(ShakyHost(PICTURE, cuts=[HALF, 50_000])) as server:
        content = await fetched(client, server)

    assert content == PICTURE
    assert [None, f"bytes={HALF}-", f"bytes={HALF + 50_000}-"] == [
        seen.headers.get("range") for seen in server.requests
    ]
    assert [None, '"one"', '"one"'] == [seen.headers.get("if-range") for seen in server.requests]


async def test_a_host_without_ranges_is_read_again_and_compared(client: httpx.AsyncClient) -> None:
    """It begins at the beginning; what is known of it is passed over."""
    async with shaky_host(ShakyHost(PICTURE, cuts=[HALF], ranges=False)) as server:
        content = await fetched(client, server)

    assert content == PICTURE
    assert len(server.requests) == 2


@pytest.mark.parametrize("later", [PICTURE[::-1], PICTURE + b"x", PICTURE[: HALF // 2]])
async def test_another_picture_is_never_joined_on(client: httpx.AsyncClient, later: bytes) -> None:
    """Half of one and half of another is no picture: the copy begins anew."""
    host = ShakyHost(PICTURE, cuts=[HALF], ranges=False, later=later)
    async with shaky_host(host) as server:
        with pytest.raises(LinkUnavailableError, match=r"another one|ended before"):
            await fetched(client, server)


async def test_however_often_it_breaks_as_long_as_it_moves(client: httpx.AsyncClient) -> None:
    """Ten answers of 20 kB each end in the whole picture."""
    async with shaky_host(ShakyHost(PICTURE, cuts=[20_000] * 10)) as server:
        content = await fetched(client, server)

    assert content == PICTURE
    assert len(server.requests) == 11


async def test_a_link_that_moves_no_more_is_left_for_later(client: httpx.AsyncClient) -> None:
    """Three answers in a row without progress are enough for now."""
    async with shaky_host(ShakyHost(PICTURE, cuts=[HALF, *[10] * 20])) as server:
        with pytest.raises(LinkUnavailableError, match="ClientPayloadError"):
            await fetched(client, server)

    assert len(server.requests) == 4


async def test_a_host_that_is_busy_meanwhile_is_asked_again(client: httpx.AsyncClient) -> None:
    """A 503 in the middle is not the end of a picture that is half there."""
    async with shaky_host(ShakyHost(PICTURE, cuts=[HALF], statuses={2: 503})) as server:
        assert PICTURE == await fetched(client, server)


async def test_a_link_that_dies_in_the_middle_is_dead(client: httpx.AsyncClient) -> None:
    """404 is final, however much of the picture had arrived."""
    async with shaky_host(ShakyHost(PICTURE, cuts=[HALF], statuses={2: 404})) as server:
        with pytest.raises(LinkDeadError, match="HTTP 404"):
            await fetched(client, server)
