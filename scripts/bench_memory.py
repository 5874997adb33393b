"""Print how much memory large pictures take in one gateway process, over what it takes when idle.

Two rounds: many answers of large pictures at once, all of them begun before one is read to its end;
and edits that bring many large files each. The gateway is a process of its own, as it ships, with
the embedded store; the upstream is here and makes pictures of any size of nothing. Linux only.

Exits with 1 when resident memory grew by more than the bound, or an answer was not whole.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web
from bench_tasks import Usage, started
from rich.console import Console
from rich.table import Table

KEY = "sk-bench-0123456789abcdef"
BOUND_MIB = 100.0
MIB = 1024 * 1024
SAMPLE_EVERY_S = 0.02
ROUND_S = 600.0
PIECE = 64 * 1024

CONFIG = """
[server]
port = 0
[assets]
url = "file:assets"
[polling]
min_interval = "100ms"
[providers.evolink]
kind = "evolink"
base_url = "{upstream}"
result_hosts = ["{host}"]
api_key_env = "EVOLINK_API_KEY"
max_submits_per_second = 0
[models."gpt-image-1.5"]
routes = ["evolink"]
[teams.bench]
budgets = [{{ usd = 1000000, per = "month" }}]
[[teams.bench.keys]]
name = "bench"
env = "BENCH_KEY"
"""

#: A picture of one pixel up to where its pixels begin: readers of headers look no further.
HEAD = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de00ffffff49444154"
)
#: What every PNG ends with; without it a picture is one that was cut off.
END = bytes.fromhex("0000000049454e44ae426082")
SCALARS = {"model": "gpt-image-1.5", "quality": "low", "size": "1024x1024"}


@dataclass(slots=True)
class Upstream:
    """An EvoLink that is done at once, with pictures of `picture_bytes`."""

    picture_bytes: int
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    uploaded_bytes: int = 0

    async def submit(self, request: web.Request) -> web.Response:
        """Take a task."""
        await request.read()
        name = f"task-unified-1790000000-{next(self.numbers):08d}"
        return web.json_response({"id": name, "status": "pending", "created": 1_790_000_000})

    async def poll(self, request: web.Request) -> web.Response:
        """Say that it is done."""
        link = f"http://{request.host}/pictures/{request.match_info['task']}.png"
        usage = {"credits_used": 0.5}
        return web.json_response(
            {
                "id": request.match_info["task"],
                "status": "completed",
                "results": [link],
                "usage": usage,
            }
        )

    async def picture(self, request: web.Request) -> web.StreamResponse:
        """Send a picture."""
        answer = web.StreamResponse(headers={"content-length": str(self.picture_bytes)})
        await answer.prepare(request)
        async for piece in _noise(0, self.picture_bytes):
            await answer.write(piece)
        return answer

    async def upload(self, request: web.Request) -> web.Response:
        """Take a file, and forget it."""
        async for piece in request.content.iter_any():
            self.uploaded_bytes += len(piece)
        link = f"http://{request.host}/files/{next(self.numbers)}.png"
        return web.json_response({"success": True, "code": 200, "data": {"file_url": link}})


async def _noise(number: int, size_bytes: int) -> AsyncIterator[bytes]:
    """Yield a picture that is like no other of another number."""
    yield HEAD + number.to_bytes(8)
    left = size_bytes - len(HEAD) - 8 - len(END)
    piece = bytes(PIECE)
    while left > 0:
        yield piece[:left]
        left -= PIECE
    yield END


@asynccontextmanager
async def serving(upstream: Upstream) -> AsyncIterator[str]:
    """Serve it on a free port; yield its URL."""
    app = web.Application(client_max_size=1 << 40)
    app.add_routes(
        [
            web.post("/v1/images/generations", upstream.submit),
            web.get("/v1/tasks/{task}", upstream.poll),
            web.get("/pictures/{name}", upstream.picture),
            web.post("/api/v1/files/upload/stream", upstream.upload),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class Round:
    """What a round took at its most, over idle."""

    name: str
    moved_mib: float
    idle_mib: float
    peak_mib: float = 0.0

    @property
    def growth_mib(self) -> float:
        """How much more than idle."""
        return self.peak_mib - self.idle_mib


@asynccontextmanager
async def watched(name: str, pid: int, idle_mib: float, moved_mib: float) -> AsyncIterator[Round]:
    """Look at a process again and again while the block runs."""
    done = Round(name, moved_mib, idle_mib)

    async def watch() -> None:
        while True:
            done.peak_mib = max(done.peak_mib, Usage.of(pid).resident_mib)
            await asyncio.sleep(SAMPLE_EVERY_S)

    async with asyncio.timeout(ROUND_S), asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        yield done
        watching.cancel()


async def answers(session: aiohttp.ClientSession, count: int, picture_bytes: int) -> None:
    """Ask for pictures, and read none to its end before all have begun."""
    begun = asyncio.Barrier(count)
    least = picture_bytes * 4 // 3

    async def one(number: int) -> None:
        body = SCALARS | {"prompt": f"number {number}"}
        async with session.post("/v1/images/generations", json=body) as answer:
            first = await answer.content.readany()
            await begun.wait()
            length = len(first)
            async for piece in answer.content.iter_any():
                length += len(piece)
            if answer.status != web.HTTPOk.status_code or length < least:
                sys.exit(f"bench: {answer.status}, {length} bytes: {first[:300]!r}")

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def edits(session: aiohttp.ClientSession, count: int, files: int, file_bytes: int) -> None:
    """Ask for edits that bring files, each like no other, as forms without a length."""
    numbers = itertools.count(1)

    async def form(number: int) -> AsyncIterator[bytes]:
        for name, value in (SCALARS | {"prompt": f"edit {number}"}).items():
            yield _part(f'name="{name}"') + value.encode() + b"\r\n"
        for _ in range(files):
            yield _part('name="image[]"; filename="a.png"\r\nContent-Type: image/png')
            async for piece in _noise(next(numbers), file_bytes):
                yield piece
            yield b"\r\n"
        yield b"--x-bench-x--\r\n"

    async def one(number: int) -> None:
        headers = {"content-type": "multipart/form-data; boundary=x-bench-x"}
        async with session.post("/v1/images/edits", data=form(number), headers=headers) as answer:
            length = 0
            async for piece in answer.content.iter_any():
                length += len(piece)
            if answer.status != web.HTTPOk.status_code:
                sys.exit(f"bench: {answer.status}")

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


def _part(headers: str) -> bytes:
    return f"--x-bench-x\r\nContent-Disposition: form-data; {headers}\r\n\r\n".encode()


async def main(arguments: argparse.Namespace) -> int:
    """Run the rounds and print their figures; return an exit code."""
    picture_bytes, file_bytes = arguments.picture_mb * 1_000_000, arguments.file_mb * 1_000_000
    upstream = Upstream(picture_bytes)
    environ = {"EVOLINK_API_KEY": "any", "BENCH_KEY": KEY}
    with tempfile.TemporaryDirectory(dir=arguments.folder or None) as name:
        folder = Path(name)
        async with serving(upstream) as url:
            host = url.removeprefix("http://")
            (folder / "config.toml").write_text(CONFIG.format(upstream=url, host=host))
            async with (
                started("-m", "gateway", "serve", says="on", cwd=folder, environ=environ) as served,
                aiohttp.ClientSession(
                    base_url=served[1],
                    headers={"authorization": f"Bearer {KEY}"},
                    connector=aiohttp.TCPConnector(limit=0),
                    timeout=aiohttp.ClientTimeout(total=ROUND_S),
                ) as session,
            ):
                pid = served[0]
                # What is loaded with the first call is part of being idle.
                await answers(session, 1, picture_bytes)
                await edits(session, 1, 1, 1000)
                idle_mib = Usage.of(pid).resident_mib
                moved_mib = arguments.answers * picture_bytes / MIB
                told = f"{arguments.answers} answers of {arguments.picture_mb} MB"
                async with watched(told, pid, idle_mib, moved_mib) as first:
                    await answers(session, arguments.answers, picture_bytes)
                moved_mib = arguments.edits * arguments.files * file_bytes / MIB
                told = f"{arguments.edits} edits of {arguments.files} x {arguments.file_mb} MB"
                async with watched(told, pid, idle_mib, moved_mib) as second:
                    await edits(session, arguments.edits, arguments.files, file_bytes)
    table = Table("at once", "MiB moved", "idle, MiB", "peak, MiB", "growth, MiB")
    for done in (first, second):
        figures = (done.moved_mib, done.idle_mib, done.peak_mib, done.growth_mib)
        table.add_row(done.name, *(f"{each:.0f}" for each in figures))
    Console().print(table)
    growth_mib = max(first.growth_mib, second.growth_mib)
    print(f"resident memory grew by {growth_mib:.0f} MiB at the most; the bound is {BOUND_MIB:.0f}")
    return int(growth_mib > BOUND_MIB)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=64, help="pictures that are sent at once")
    parser.add_argument("--picture-mb", type=int, default=8, help="how large each is")
    parser.add_argument("--edits", type=int, default=8, help="edits at once")
    parser.add_argument("--files", type=int, default=16, help="files of each")
    parser.add_argument("--file-mb", type=int, default=10, help="how large each is")
    parser.add_argument("--folder", default="", help="where pictures go meanwhile: gigabytes")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.exit(uvloop.run(main(parser.parse_args())))
