"""The file host: pictures of finished tasks and uploaded files (protocols/evolink.md §7, §11)."""

import asyncio
import hashlib
import re
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.simulator.file_routes import served
from gateway.simulator.files import Files
from gateway.simulator.pictures import Picture, draw, plain
from gateway.simulator.references import UnreachableError
from gateway.simulator.refusals import Refusals
from gateway.simulator.replies import distorted
from gateway.simulator.rules import Stage
from gateway.simulator.script import ResultFile
from gateway.simulator.settings import SimulatorSettings
from gateway.simulator.world import StoredFile, World

_HEAD_BYTES = 64
_REST = re.compile(r"bytes=(\d{1,18})-")


class Results:
    """Serve every link of ours; whoever knows one may read it."""

    def __init__(
        self,
        settings: SimulatorSettings,
        world: World,
        files: Files,
        stage: Stage,
        refusals: Refusals,
    ) -> None:
        self._settings = settings
        self._world = world
        self._files = files
        self._stage = stage
        self._refusals = refusals

    async def result(self, request: Request) -> Response:
        """Answer a GET of any link."""
        path = request.scope["path"]
        stored = self._world.file(path)
        reply = self._stage.next("result").other
        if stored is not None:
            proper = _part(await self._served(stored), request)
            own = self._world.plays(stored.task.script.result, "result", path)
            reply = own or reply
        else:
            proper = self._uploaded(path)
        return proper if reply is None else await distorted(reply, proper, self._refusals.plain)

    async def own(self, link: str, base: str) -> bytes | None:
        """Return the content behind a link under ``base``, or ``None`` for any other link.

        Raises ``UnreachableError`` when it leads nowhere.
        """
        if not link.startswith(base + "/"):
            return None
        path = unquote(urlsplit(link.removeprefix(base)).path)
        upload = self._files.by_path(path)
        if upload is not None:
            return upload.content
        stored = self._world.file(path)
        if stored is None:
            raise UnreachableError("the file host answered 404")
        return await self._drawn(stored)

    async def _drawn(self, stored: StoredFile) -> bytes:
        picture = _picture(stored)
        if self._settings.plain_pictures:
            return plain(
                picture.width,
                picture.height,
                picture.output_format,
                transparent=picture.transparent,
            )
        return await asyncio.to_thread(draw, picture)

    async def _served(self, stored: StoredFile) -> Response:
        media_type = f"image/{stored.task.order.output_format}"
        file = stored.task.script.file
        if file is ResultFile.NOT_AN_IMAGE:
            return Response("<html>this is not an image</html>", media_type=media_type)
        content = await self._drawn(stored)
        if file is ResultFile.CORRUPT:
            content = content[:_HEAD_BYTES].ljust(len(content), b"\0")
        if file is ResultFile.UNTYPED:
            media_type = "application/octet-stream"
        return Response(content, media_type=media_type)

    def _uploaded(self, path: str) -> Response:
        upload = self._files.by_path(path)
        if upload is not None:
            return served(upload)
        gone = self._world.expired(path)
        status = self._settings.expired_result_status if gone else 404
        return PlainTextResponse(f"{status} page not found", status_code=status)


def _part(whole: Response, request: Request) -> Response:
    """Return the end of a file when that is all that is asked for, as hosts of files do."""
    content = bytes(whole.body)
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    whole.headers.update({"accept-ranges": "bytes", "etag": etag})
    asked = _REST.fullmatch(request.headers.get("range", ""))
    if asked is None or request.headers.get("if-range", etag) != etag:
        return whole
    first = int(asked[1])
    if first >= len(content):
        return Response(status_code=416, headers={"content-range": f"bytes */{len(content)}"})
    headers = {"content-range": f"bytes {first}-{len(content) - 1}/{len(content)}", "etag": etag}
    return Response(content[first:], 206, headers, whole.media_type)


def _picture(stored: StoredFile) -> Picture:
    order = stored.task.order
    picture = Picture(
        width=order.width,
        height=order.height,
        output_format=order.output_format,
        transparent=order.transparent,
        seed=stored.task.seed + stored.index,
        prompt=order.prompt,
        note=f"{order.model.name}  {order.width}x{order.height}  {order.quality}  "
        f"{stored.index + 1}/{len(stored.task.files)}",
    )
    match stored.task.script.file:
        case ResultFile.OTHER_SIZE:
            # A square of 1024 was once answered with 1254 (§2.3).
            return replace(
                picture, width=order.width * 1254 // 1024, height=order.height * 1254 // 1024
            )
        case ResultFile.OTHER_FORMAT:
            other = "jpeg" if order.output_format != "jpeg" else "png"
            return replace(picture, output_format=other, transparent=False)
        case ResultFile.OPAQUE:
            return replace(picture, transparent=False)
        case _:
            return picture
