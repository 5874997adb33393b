"""Pictures by link: what a browser, a download manager and a stranger get."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.domain.task import picture_key
from gateway.domain.tokens import Purpose
from gateway.edge.render import CHUNK_BYTES
from gateway.simulator.settings import SimulatorSettings
from tests.support.gateway import Running, running_gateway

FAST = SimulatorSettings(latency_median_s=0.0, latency_sigma=0.0, seed=7)


@dataclass(frozen=True)
class Linked:
    """A picture that was made, the link to it, and somebody who has nothing but the link."""

    running: Running
    task: str
    picture: bytes
    link: str
    stranger: httpx.AsyncClient

    async def get(self, *, method: str = "GET", link: str = "", **headers: str) -> httpx.Response:
        """Follow the link; names of headers are written with underscores."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.stranger.request(method, link or self.link, headers=told)

    async def token(self, *, until_s: int) -> str:
        """Sign a link to the picture that is good until then."""
        signer = await self.running.gateway.front.links._signer()
        key = picture_key("design", self.task, 0)  # type: ignore[arg-type]
        return signer.token(Purpose.ASSET, f"{until_s}/png/{key}")


@pytest.fixture
async def linked(tmp_path: Path) -> AsyncIterator[Linked]:
    """Make a picture and give its link away."""
    async with (
        running_gateway(tmp_path, simulator=FAST) as running,
        httpx.AsyncClient(base_url=running.url) as stranger,
    ):
        made = await running.generate(size="1536x1024")
        task = made.headers["x-gateway-task-id"]
        picture = base64.b64decode(made.json()["data"][0]["b64_json"])
        yield Linked(running, task, picture, await _link(running, task), stranger)


async def _link(running: Running, task: str) -> str:
    """Return the link to a task's picture, once the picture is noted."""
    async with asyncio.timeout(60):
        while True:
            answer = await running.client.get(f"/v1/images/tasks/{task}?data=links")
            if pictures := answer.json()["data"]:
                assert ["url"] == list(pictures[0])
                link: str = pictures[0]["url"]
                return link
            await asyncio.sleep(0.05)


async def test_the_link_is_all_it_takes(linked: Linked) -> None:
    """The picture comes byte for byte, as what it is, and with a harmless name."""
    answer = await linked.get()

    assert 200 == answer.status_code
    assert linked.picture == answer.content
    assert CHUNK_BYTES // 4 < len(linked.picture)
    headers = answer.headers
    assert ("image/png", str(len(linked.picture)), "bytes", "nosniff") == (
        headers["content-type"],
        headers["content-length"],
        headers["accept-ranges"],
        headers["x-content-type-options"],
    )
    assert f'inline; filename="{linked.task}-0.png"' == headers["content-disposition"]
    kind, _, max_age = headers["cache-control"].partition(", max-age=")
    assert "private" == kind
    assert 86_300 < int(max_age) <= 86_400


async def test_a_task_shows_link_and_picture(linked: Linked) -> None:
    """`url` stands beside `b64_json`, and alone when only links are asked for."""
    shown = (await linked.running.client.get(f"/v1/images/tasks/{linked.task}")).json()
    without = await linked.running.client.get(f"/v1/images/tasks/{linked.task}?data=false")

    [picture] = shown["data"]
    assert linked.link == picture["url"]
    assert linked.picture == base64.b64decode(picture["b64_json"])
    assert "data" not in without.json()


async def test_head_tells_all_but_the_picture(linked: Linked) -> None:
    """The headers are those of the whole, whatever part was asked for."""
    whole = await linked.get()
    head = await linked.get(method="HEAD", range="bytes=0-1")

    assert (200, b"") == (head.status_code, head.content)
    for name in ("content-type", "content-length", "etag", "content-disposition"):
        assert whole.headers[name] == head.headers[name]


#: What may be asked for, and which bytes of the picture that is.
PARTS = {
    "bytes=0-0": slice(0, 1),
    "bytes=100-299": slice(100, 300),
    "bytes=-10": slice(-10, None),
    "bytes=9-": slice(9, None),
}


async def test_parts(linked: Linked) -> None:
    """A part is 206 with its place in the whole."""
    total = len(linked.picture)
    for asked, where in PARTS.items():
        answer = await linked.get(range=asked)
        first, end, _ = where.indices(total)

        assert (206, linked.picture[where]) == (answer.status_code, answer.content)
        assert str(end - first) == answer.headers["content-length"]
        assert f"bytes {first}-{end - 1}/{total}" == answer.headers["content-range"]
        assert "image/png" == answer.headers["content-type"]


async def test_a_broken_download_goes_on_where_it_broke(linked: Linked) -> None:
    """Two parts of the same version make the whole; of another one the whole comes again."""
    first = await linked.get(range="bytes=0-999")
    rest = await linked.get(range="bytes=1000-", if_range=first.headers["etag"])
    other = await linked.get(range="bytes=1000-", if_range='"another"')

    assert linked.picture == first.content + rest.content
    assert (206, 200) == (rest.status_code, other.status_code)
    assert linked.picture == other.content


async def test_several_parts_are_the_whole(linked: Linked) -> None:
    """Nobody makes pictures of several parts; the whole is a right answer."""
    assert linked.picture == (await linked.get(range="bytes=0-1,5-6")).content


async def test_a_part_beyond_the_end(linked: Linked) -> None:
    """There is nothing there: 416 with the size."""
    answer = await linked.get(range=f"bytes={len(linked.picture)}-")

    assert (416, b"") == (answer.status_code, answer.content)
    assert f"bytes */{len(linked.picture)}" == answer.headers["content-range"]


async def test_a_picture_that_is_known_is_not_sent_again(linked: Linked) -> None:
    """304 without a body, and with what keeps it fresh."""
    etag = (await linked.get()).headers["etag"]
    changed = await linked.get(if_none_match='"x"')

    assert 200 == changed.status_code
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = await linked.get(if_none_match=known)
        assert (304, b"", etag) == (answer.status_code, answer.content, answer.headers["etag"])


async def test_forged_links_open_nothing_and_old_ones_say_so(linked: Linked) -> None:
    """Who has no true link learns nothing, nor is there a list; who had one learns it is over."""
    now_s = linked.running.gateway.clock.now_ms() // 1000
    good, over = await linked.token(until_s=now_s + 60), await linked.token(until_s=now_s)
    forged = good[:-2] + ("A" if good[-2] != "A" else "B") + good[-1]
    opened = await linked.get(link=f"/v1/assets/{good}")
    refused = [await linked.get(link=f"/v1/assets/{token}") for token in (forged, "x")]
    gone = [await linked.get(link=f"/v1/assets/{over}")]
    await linked.running.gateway.assets.sweep(2**53, lambda _: 0)
    gone.append(await linked.get())
    lists = [await linked.get(link=path) for path in ("/v1/assets", "/v1/assets/")]

    assert 200 == opened.status_code
    assert [404] * 2 == [answer.status_code for answer in refused]
    assert [410] * 2 == [answer.status_code for answer in gone]
    assert 1 == len({answer.content for answer in refused})
    assert ["picture_expired"] * 2 == [answer.json()["error"]["code"] for answer in gone]
    assert "not_found" == refused[0].json()["error"]["code"]
    assert [404, 404] == [answer.status_code for answer in lists]


async def test_links_stand_in_no_log_and_no_metric(
    linked: Linked, capsys: pytest.CaptureFixture[str]
) -> None:
    """They open the picture, so they are told to the caller alone."""
    token = linked.link.rpartition("/")[2]
    await linked.get()
    await linked.get(method="POST")
    await linked.get(link=f"/v1/assets/x{token}")
    logged = capsys.readouterr()
    scraped = (await linked.running.client.get("/metrics")).text

    assert "route=assets" in logged.out
    for text in (logged.out, logged.err, scraped):
        assert token[:40] not in text
    assert 'route="assets",status="200",team="design"' in scraped


async def test_a_picture_that_cannot_be_read_is_no_empty_picture(linked: Linked) -> None:
    """What breaks in the store is an error of ours, not a 200 without bytes."""
    store = Path(linked.running.gateway.front.settings.assets.url.removeprefix("file:"))
    [file] = (store / "design").rglob("0")
    file.write_bytes(b"")

    assert 500 == (await linked.get()).status_code


async def test_links_lead_where_the_caller_called_when_the_proxy_is_trusted(
    tmp_path: Path,
) -> None:
    """A load balancer that speaks TLS says so, and by which name it was asked."""
    told = {"x-forwarded-proto": "https", "x-forwarded-host": "images.example.com"}
    async with running_gateway(tmp_path, server='trusted_proxies = ["127.0.0.1"]') as running:
        running.client.headers.update(told)
        answer = await running.generate(response_format="url")

    assert answer.json()["data"][0]["url"].startswith("https://images.example.com/v1/assets/")
