"""The body of `POST /evolink/v1/images/generations` → the request and its pictures.

References are named as at EvoLink, by links in `image_urls` (protocols/evolink.md §2). Data URLs
are taken besides: its clients bring pictures to its files service first, which is not this server.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request

from gateway.assets.spool import Spool
from gateway.domain.catalog import Model
from gateway.edge.evolink_fields import parse_object, parse_submit
from gateway.edge.pictures import Edit, PictureReader
from gateway.edge.spooled_json import check_short, read_json


class SubmitReader:
    """Reads such bodies; `max_rest_bytes` is what one may have beside its pictures."""

    def __init__(
        self,
        pictures: PictureReader,
        find_model: Callable[[str], Model | None],
        *,
        max_rest_bytes: int,
    ) -> None:
        self._pictures = pictures
        self._find_model = find_model
        self._max_rest_bytes = max_rest_bytes

    async def read(self, request: Request, spool: Spool) -> Edit:
        """Read the body, and fetch what it links to unless the provider does.

        Raises InvalidRequest, UnsupportedImage, NotFound, BadReference, BodyTooLarge and
        AssetUnavailableError.
        """
        spooled = await read_json(request.stream(), spool, max_rest_bytes=self._max_rest_bytes)
        fields = parse_object(spooled.text)
        check_short(fields, spooled)
        asked = parse_submit(fields, self._find_model)
        if not asked.links:
            return Edit(asked.request)
        images = [
            await self._pictures.named(url, f"image_urls[{place}]", spooled.strings, spool)
            for place, url in enumerate(asked.links)
        ]
        mask = None
        if asked.mask is not None:
            mask = await self._pictures.named(asked.mask, "mask_url", spooled.strings, spool)
        return await self._pictures.edit(asked.request, images, mask, asked.model, spool)
