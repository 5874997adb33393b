"""`GET /v1/assets/{token}`: a picture, for whoever has the link to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.assets.interface import AssetStore, AssetUnavailableError, ByteSpan, StoredObject
from gateway.domain.errors import InternalError, NotFound, PictureExpired
from gateway.domain.references import is_reference
from gateway.edge.ranges import RangeNotSatisfiableError, span_of
from gateway.edge.record import record_of
from gateway.edge.render import CHUNK_BYTES, opened
from gateway.service.links import LinkedPicture, Links
from gateway.service.tasks import TaskService


class AssetRoutes:
    """The handler that serves pictures by link; there is no list of them."""

    def __init__(self, *, links: Links, tasks: TaskService, assets: AssetStore) -> None:
        self._links = links
        self._tasks = tasks
        self._assets = assets

    async def show(self, request: Request) -> Response:
        """Return a picture, or the part of it that is asked for, as it is streamed.

        Raises NotFound for a link that is none of ours, and PictureExpired for one that is over,
        or whose picture was deleted.
        """
        link = await self._links.opened(request.path_params["token"])
        if link is None:
            raise NotFound("There is no such picture.")
        record_of(request).team = link.key.partition("/")[0]
        found = await self._find(link) if link.left_s > 0 else None
        if found is None:
            raise PictureExpired("The picture is no longer kept, or its link has expired.")
        headers = _headers(link, found)
        if _has_it(request, headers["etag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED.value, headers=headers)
        try:
            span = _asked(request, found, headers["etag"])
        except RangeNotSatisfiableError:
            beyond = {"content-range": f"bytes */{found.size_bytes}", "accept-ranges": "bytes"}
            return Response(
                status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE.value, headers=beyond
            )
        return await self._answer(request, link, found, headers, span)

    async def _find(self, link: LinkedPicture) -> StoredObject | None:
        try:
            return await self._assets.find(link.key)
        except AssetUnavailableError as error:
            raise InternalError from error

    async def _answer(
        self,
        request: Request,
        link: LinkedPicture,
        found: StoredObject,
        headers: dict[str, str],
        span: ByteSpan | None,
    ) -> Response:
        status = HTTPStatus.OK.value
        length_bytes = found.size_bytes
        if span is not None:
            status, length_bytes = HTTPStatus.PARTIAL_CONTENT.value, span.size_bytes
            headers["content-range"] = f"bytes {span.first}-{span.end - 1}/{found.size_bytes}"
        headers["content-length"] = str(length_bytes)
        media_type = link.format.media_type
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=media_type)
        pieces: AsyncIterator[bytes] = await opened(
            self._assets.read(link.key, chunk_bytes=CHUNK_BYTES, part=span)
        )
        if span is None or span.end == found.size_bytes:
            pieces = self._until_fetched(link, pieces)
        return StreamingResponse(pieces, status_code=status, headers=headers, media_type=media_type)

    async def _until_fetched(
        self, link: LinkedPicture, pieces: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece
        if not is_reference(link.key):
            self._tasks.fetched([link.key])


def _headers(link: LinkedPicture, found: StoredObject) -> dict[str, str]:
    """Return what every answer with the picture says of it."""
    _, _, name = link.key.partition("/")
    return {
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={link.left_s}",
        "content-disposition": f'inline; filename="{name.replace("/", "-")}.{link.format}"',
        "etag": f'"{found.version}"',
        # It was recognised as a picture when it was stored, and is never anything else.
        "x-content-type-options": "nosniff",
    }


def _has_it(request: Request, etag: str) -> bool:
    """Tell whether the client says that it has this very picture already."""
    known = [each.strip() for each in request.headers.get("if-none-match", "").split(",")]
    return "*" in known or etag in [each.removeprefix("W/") for each in known]


def _asked(request: Request, found: StoredObject, etag: str) -> ByteSpan | None:
    """Return the part that is asked for; None for all of it, or when it was another picture.

    Raises RangeNotSatisfiableError.
    """
    if request.method != "GET" or request.headers.get("if-range", etag) != etag:
        return None
    return span_of(request.headers.get("range", ""), found.size_bytes)
