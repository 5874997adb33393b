import asyncio
import gzip
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from gateway.assets.convert import Converter
from gateway.assets.download import FetchSettings
from gateway.assets.ingest import HttpPictureFetcher
from gateway.assets.interface import (
    AssetUnavailableError,
    Ingested,
    LinkDeadError,
    LinkUnavailableError,
    PictureCutError,
    StoredPicture,
)
from gateway.assets.object_store import ObjectAssetStore
from gateway.assets.place import AssetPlace
from gateway.background import SystemClock
from gateway.domain.images import PLAIN_PNG, Output, PictureFormat
from gateway.network.clients import build_fetch_client
from tests.support.sockets import (
    RawServer,
    Script,
    answer,
    closed_port,
    drip,
    raw,
    raw_server,
    raw_then_reset,
    reset,
    silent,
)
from tests.support.uploads import a_signed_picture

MAX_BYTES = 300_000
KEY = "renders/a"


def picture(kind: str) -> bytes:
    """Return a small real picture."""
    target = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(target, kind)
    return target.getvalue()


PNG = picture("PNG")


class World:
    """A fetcher, and the directory behind its store."""

    def __init__(self, client: httpx.AsyncClient, folder: Path) -> None:
        self._client = client
        self.folder = folder
        self.store = ObjectAssetStore.open(AssetPlace(f"file:{folder}"))
        self.converter = Converter()

    def fetcher(
        self, *hosts: str, allow_http: bool = True, patience_s: float = 0.3
    ) -> HttpPictureFetcher:
        """Return a fetcher that may ask these hosts."""
        settings = FetchSettings(
            result_hosts=frozenset(hosts),
            allow_http=allow_http,
            max_result_bytes=MAX_BYTES,
            total_timeout_s=patience_s + 0.5,
            idle_timeout_s=patience_s,
        )
        return HttpPictureFetcher(
            *(self._client, self.store, self.converter, settings, SystemClock()),
            spool_dir=self.folder.parent,
        )

    async def ingest(self, server: RawServer, output: Output = PLAIN_PNG) -> StoredPicture:
        """Copy what the server serves."""
        return (await self.told(server, output)).picture

    async def told(
        self, server: RawServer, output: Output = PLAIN_PNG, *, beats_bytes: int = -1
    ) -> Ingested:
        """Copy what the server serves; return all that is told of it."""
        link = f"{server.url}/a.png?sig=secret"
        fetcher = self.fetcher(server.host)
        return await fetcher.ingest(link, KEY, output, beats_bytes=beats_bytes)

    async def timed(self, server: RawServer) -> Ingested:
        """Copy what a slow server serves; return the times it took, too."""
        fetcher = self.fetcher(server.host, patience_s=20.0)
        return await fetcher.ingest(f"{server.url}/a.png", KEY, PLAIN_PNG)

    def files(self) -> list[Path]:
        """Return what is in the store."""
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Return a fetcher on a real client and real files."""
    async with build_fetch_client() as client:
        world = World(client, tmp_path / "assets")
        yield world
        world.converter.close()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_a_picture_is_copied_and_recognised(world: World, kind: str) -> None:
    """The bytes reach the store unchanged; the format is what they are, not what is claimed."""
    content = picture(kind)
    claims = answer(200, content, {"Content-Type": "application/octet-stream"})
    async with raw_server(claims) as server:
        stored = await world.ingest(server, Output(PictureFormat(kind.lower())))

    assert stored == StoredPicture(KEY, len(content), PictureFormat(kind.lower()))
    assert content == (world.folder / KEY).read_bytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_what_a_maker_has_signed_stays_signed(world: World, kind: str) -> None:
    """A picture that is what was asked for keeps its C2PA manifest, and every other byte."""
    manifest = b"\x00\x00\x00\x20jumb" + bytes(range(200))
    content = a_signed_picture(kind, manifest)
    async with raw_server(answer(200, content)) as server:
        await world.ingest(server, Output(PictureFormat(kind.lower())))
        kept = b"".join([piece async for piece in world.store.read(KEY, chunk_bytes=1000)])
        other = "WEBP" if kind == "PNG" else "PNG"
        await world.ingest(server, Output(PictureFormat(other.lower())))

    assert content == kept
    with Image.open(io.BytesIO(kept)) as opened:
        opened.load()
    # It signs the very bytes: of a picture that was made into another it would say what is not so.
    assert manifest not in (world.folder / KEY).read_bytes()


async def test_waits_for_the_link_and_for_the_store_are_told_apart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow link is the fetch's time, a slow store the store's."""
    put = world.store.put

    async def slow_put(key: str, chunks: AsyncIterator[bytes]) -> int:
        await asyncio.sleep(0.3)
        return await put(key, chunks)

    async def slowly(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + PNG[:20])
        await asyncio.sleep(0.3)
        writer.write(PNG[20:])
        writer.close()

    async with raw_server(slowly) as server:
        slow_link = await world.timed(server)
    monkeypatch.setattr(world.store, "put", slow_put)
    async with raw_server(answer(200, PNG)) as server:
        slow_store = await world.timed(server)

    assert slow_link.fetch_s > 0.29
    assert slow_store.store_s > 0.29
    # Neither has the other's wait in it: on no machine do the rest of both take as long.
    assert slow_link.store_s < slow_link.fetch_s
    assert slow_store.fetch_s < slow_store.store_s


async def test_the_host_hears_no_key_and_only_one_question(world: World) -> None:
    """A download carries no Authorization and no cookie."""
    async with raw_server(answer(200, PNG)) as server:
        await world.ingest(server)

    (seen,) = server.requests
    assert (seen.method, seen.target) == ("GET", "/a.png?sig=secret")
    assert {"authorization", "cookie"}.isdisjoint(seen.headers)
    assert seen.headers["accept"] == "image/*"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(raw(b"HTTP/1.1 200 OK\r\n\r\n" + PNG), id="until the connection closes"),
        pytest.param(
            raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"3\r\n%b\r\n" % PNG[:3],
                b"%x\r\n%b\r\n0\r\n\r\n" % (len(PNG) - 3, PNG[3:]),
            ),
            id="in chunks, the first too short to tell",
        ),
    ],
)
async def test_pictures_without_a_length_are_copied(world: World, script: Script) -> None:
    """However the body is framed, all of it is copied."""
    async with raw_server(script) as server:
        stored = await world.ingest(server)

    assert len(PNG) == stored.size_bytes
    assert (world.folder / KEY).read_bytes() == PNG


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(answer(403, b"no"), "HTTP 403", id="403"),
        pytest.param(answer(404, b"no"), "HTTP 404", id="404"),
        pytest.param(answer(410, b"no"), "HTTP 410", id="410"),
        pytest.param(answer(204, b""), "HTTP 204", id="no content"),
        pytest.param(answer(206, PNG), "HTTP 206", id="a part that nobody asked for"),
        pytest.param(
            answer(302, PNG, {"Location": "https://files.evolink.ai/a.png"}), "HTTP 302", id="moved"
        ),
        pytest.param(answer(200, b"<html>expired</html>"), "not a PNG, JPEG or WebP", id="HTML"),
        pytest.param(
            answer(200, gzip.compress(PNG), {"Content-Encoding": "gzip"}),
            "not a PNG, JPEG or WebP",
            id="compressed",
        ),
        pytest.param(
            drip(b"HTTP/1.1 200 OK\r\nContent-Length: 300001\r\n\r\n", PNG, pause_s=5),
            "larger than 300000 bytes",
            id="too large before any of it was read",
        ),
        pytest.param(
            drip(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"%x\r\n%b\r\n" % (len(PNG), PNG),
                b"ffff\r\n" + bytes(0xFFFF) + b"\r\n",
                pause_s=0,
            ),
            f"larger than {MAX_BYTES} bytes",
            id="too large without saying so",
        ),
    ],
)
async def test_what_will_not_get_better_is_a_dead_link(
    world: World, script: Script, reason: str
) -> None:
    """Answers that stay as they are end the copy for good and store nothing."""
    async with raw_server(script) as server:
        with pytest.raises(LinkDeadError, match=reason) as caught:
            await world.ingest(server)

    assert world.files() == []
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(answer(500), "HTTP 500", id="500"),
        pytest.param(answer(503), "HTTP 503", id="503"),
        pytest.param(answer(429), "HTTP 429", id="429"),
        pytest.param(answer(408), "HTTP 408", id="408"),
        pytest.param(answer(200, b""), "empty", id="empty"),
        pytest.param(silent, "SocketTimeoutError", id="silent"),
        pytest.param(reset, "ClientOSError|ServerDisconnectedError", id="reset"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + PNG),
            "ClientPayloadError",
            id="truncated",
        ),
        pytest.param(
            raw_then_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + PNG),
            "Client.*Error",
            id="reset amid the body",
        ),
        pytest.param(
            drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + PNG, b"x", pause_s=0.05),
            "not copied within 0.8 s",
            id="dripping",
        ),
        pytest.param(
            drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + PNG, b"x", pause_s=5),
            "SocketTimeoutError",
            id="stalled",
        ),
    ],
)
async def test_what_may_get_better_is_an_unavailable_link(
    world: World, script: Script, reason: str
) -> None:
    """Failures of the moment may be tried again and store nothing."""
    async with raw_server(script) as server:
        with pytest.raises(LinkUnavailableError, match=reason) as caught:
            await world.ingest(server)

    assert world.files() == []
    assert "secret" not in str(caught.value)


async def test_a_host_that_is_not_there_is_unavailable(world: World) -> None:
    """A refused connection may be better next time."""
    host = f"127.0.0.1:{closed_port()}"

    with pytest.raises(LinkUnavailableError, match="ClientConnectorError"):
        await world.fetcher(host).ingest(f"http://{host}/a.png", KEY, PLAIN_PNG)


async def test_a_store_that_fails_is_not_the_link_s_fault(world: World) -> None:
    """A full or missing store is told apart from a bad link."""
    world.folder.rmdir()
    world.folder.write_bytes(b"")
    async with raw_server(answer(200, PNG)) as server:
        with pytest.raises(AssetUnavailableError):
            await world.ingest(server)


@pytest.mark.parametrize(
    ("made", "output", "becomes"),
    [
        ("PNG", Output(PictureFormat.WEBP, 50), "webp"),
        ("PNG", Output(PictureFormat.JPEG), "jpeg"),
        ("WEBP", Output(PictureFormat.PNG), "png"),
        ("JPEG", Output(PictureFormat.JPEG, 10), "jpeg"),
    ],
)
async def test_another_format_is_made_on_the_way(
    world: World, made: str, output: Output, becomes: str
) -> None:
    """What is stored is what is delivered: the format that was asked for, by its own bytes."""
    content = picture(made)
    async with raw_server(answer(200, content)) as server:
        stored = await world.ingest(server, output)

    written = (world.folder / KEY).read_bytes()
    assert (becomes, len(written)) == (stored.format, stored.size_bytes)
    with Image.open(io.BytesIO(written)) as opened:
        assert (becomes, (64, 64)) == ((opened.format or "").lower(), opened.size)
    assert content != written


async def test_what_cannot_be_converted_is_kept_as_it_came(world: World) -> None:
    """A picture that is paid for is not lost to a decoder: it is stored, and told as what it is."""
    content = PNG[:100].ljust(len(PNG), b"\0")
    async with raw_server(answer(200, content)) as server:
        stored = await world.ingest(server, Output(PictureFormat.WEBP))

    assert stored == StoredPicture(KEY, len(content), PictureFormat.PNG)
    assert content == (world.folder / KEY).read_bytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_half_of_a_picture_is_kept_and_told_as_half(world: World, kind: str) -> None:
    """What the host sends as all of it: it is paid for. As much once more is no better."""
    content = picture(kind)
    half = content[: len(content) // 2]
    output = Output(PictureFormat(kind.lower()))
    async with raw_server(answer(200, half)) as server:
        cut = await world.told(server, output)
        with pytest.raises(PictureCutError, match=f"after {len(half)} bytes"):
            await world.told(server, output, beats_bytes=len(half))
    kept = (world.folder / KEY).read_bytes()
    async with raw_server(answer(200, content)) as server:
        whole = await world.told(server, output, beats_bytes=len(half))

    assert (len(half), half) == (cut.cut_bytes, kept)
    assert (None, content) == (whole.cut_bytes, (world.folder / KEY).read_bytes())


async def test_what_is_converted_for_a_reader_waits_for_it_on_disk(world: World) -> None:
    """However slowly it is read, it is in no memory meanwhile; and the file goes with its end."""
    async with raw_server(answer(200, PNG)) as server:
        fetcher = world.fetcher(server.host)
        link, webp = f"{server.url}/a.png", Output(PictureFormat.WEBP, 50)
        opened = await fetcher.open(link, webp, chunk_bytes=100)
        pieces = [await anext(opened.pieces)]
        during = open_spools(world.folder.parent)
        pieces += [piece async for piece in opened.pieces]

    assert (1, 0) == (during, open_spools(world.folder.parent))
    assert len(b"".join(pieces)) == opened.size_bytes
    with Image.open(io.BytesIO(b"".join(pieces))) as converted:
        assert "WEBP" == converted.format


def open_spools(folder: Path) -> int:
    """Return how many files without a name this process has open in a folder."""
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]  # noqa: PTH115 - no path
    return sum(link.startswith(f"{folder}/") and link.endswith(" (deleted)") for link in links)


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/a.png",
        "https://files.evolink.ai.evil.example/a.png",
        "https://sub.files.evolink.ai/a.png",
        "https://files.evolink.ai:8443/a.png",
        "https://files.evolink.ai./a.png",
        "https://files.evolink.ai\\@evil.example/a.png",
        "https://files.evolink.ai%2f@evil.example/a.png",
        "https://evil.example#@files.evolink.ai/",
        "https://evil.example?@files.evolink.ai/",
        "https://[::1]/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://xn--0/a.png",
        "//files.evolink.ai/a.png",
        "files.evolink.ai/a.png",
        "/a.png",
        "",
    ],
)
async def test_only_listed_hosts_are_asked(world: World, link: str) -> None:
    """A host is listed exactly or it is not asked, however the link is written."""
    with pytest.raises(LinkDeadError):
        await world.fetcher("files.evolink.ai").ingest(link, KEY, PLAIN_PNG)


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("https://user:pass@files.evolink.ai/a.png", "credentials"),
        ("http://files.evolink.ai/a.png", "scheme"),
        ("gs://files.evolink.ai/a.png", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("https://files.evolink.ai/a\tb.png", "not a URL"),
        ("https://files.evolink.ai:port/a.png", "not a URL"),
    ],
)
async def test_odd_links_are_dead(world: World, link: str, reason: str) -> None:
    """Links with credentials, without TLS or of other schemes are never asked for."""
    with pytest.raises(LinkDeadError, match=reason):
        await world.fetcher("files.evolink.ai", allow_http=False).ingest(link, KEY, PLAIN_PNG)


async def test_hosts_are_compared_without_regard_to_case(world: World) -> None:
    """An upper-case host in link or setting is the same host."""
    async with raw_server(answer(200, PNG)) as server:
        port = server.port
        link = f"http://LocalHost:{port}/a.png"
        stored = await world.fetcher(f"LOCALHOST:{port}").ingest(link, KEY, PLAIN_PNG)

    assert stored.picture.format is PictureFormat.PNG
