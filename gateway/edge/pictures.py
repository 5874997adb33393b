"""Pictures that a call names or brings along → what its references are.

Whatever is wrong with one is kept as the refusal that it is, so that the reader of the body tells
it when it is its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.assets.interface import AssetUnavailableError
from gateway.assets.spool import Spool, SpooledFile
from gateway.domain.catalog import Model
from gateway.domain.errors import BadReference, GatewayError, InvalidRequest
from gateway.domain.images import (
    ImageRequest,
    LinkedReference,
    PictureFormat,
    Reference,
    References,
)
from gateway.edge.params import too_long
from gateway.edge.spooled_json import MAX_URL_CHARS, DataUrl, decode_data_url
from gateway.edge.uploads import Upload
from gateway.service.references import DECLARED_TYPES, Brought, unsupported_type
from gateway.service.references import References as ReferenceService

#: A picture that was given: its name in messages, and what it is or why it is refused.
Given = tuple[str, "Brought | LinkedReference | GatewayError"]


@dataclass(frozen=True, slots=True)
class Edit:
    """A call and the pictures that it brought; those are in files until they are kept."""

    request: ImageRequest
    brought: tuple[Brought, ...] = ()


class PictureReader:
    """Looks at pictures; strictly, the type that a file is said to have counts as well."""

    def __init__(self, references: ReferenceService, *, strict: bool = False) -> None:
        self._references = references
        self._strict = strict

    async def uploaded(self, upload: Upload, param: str) -> Brought | GatewayError:
        """Return a picture that was uploaded, or what is wrong with it."""
        if self._strict and upload.declared_type not in DECLARED_TYPES:
            return unsupported_type(param, upload.declared_type or "application/octet-stream")
        return await self._looked_at(upload.file, upload.declared_type, param)

    async def named(
        self, url: str, param: str, strings: Mapping[str, DataUrl], spool: Spool
    ) -> Given:
        """Return what a text names: the picture of a data URL, or a link, which is not opened yet.

        `strings` are the long ones of its body. Raises AssetUnavailableError.
        """
        picture = strings.get(url)
        if picture is None and url[:5].lower() == "data:":
            picture = await decode_data_url(url, spool)
        if picture is None:
            is_link = url[:8].lower().startswith(("http://", "https://"))
            return param, LinkedReference(url) if is_link else _no_url(param)
        if picture.chars > MAX_URL_CHARS:
            return param, too_long(param, MAX_URL_CHARS, picture.chars)
        if picture.broken:
            return param, _no_url(param)
        return param, await self._looked_at(picture.file, picture.declared_type, param)

    async def _looked_at(
        self, file: SpooledFile, declared_type: str, param: str
    ) -> Brought | GatewayError:
        if not file.size_bytes:
            return InvalidRequest(
                f"Invalid file '{param}': the file is empty.", param=param, code="empty_file"
            )
        try:
            return await self._references.looked_at(file, param=param, declared_type=declared_type)
        except GatewayError as refusal:
            return refusal

    async def edit(
        self,
        request: ImageRequest,
        images: Sequence[Given],
        mask: Given | None,
        model: Model,
        spool: Spool,
    ) -> Edit:
        """Fetch what links lead to, and check the mask against what it is of.

        Raises the refusal of the first picture that is refused, and AssetUnavailableError.
        """
        found = await self._found([*images, *([] if mask is None else [mask])], model, spool)
        masked = None if mask is None else found.pop()
        if mask is not None and isinstance(masked, Brought):
            _check_mask(masked, found[0], mask[0])
        references = References(
            tuple(_reference(each) for each in found),
            None if masked is None else _reference(masked),
        )
        everything = found if masked is None else [*found, masked]
        return Edit(
            replace(request, references=references),
            tuple(each for each in everything if isinstance(each, Brought)),
        )

    async def _found(
        self, given: Sequence[Given], model: Model, spool: Spool
    ) -> list[Brought | LinkedReference]:
        """Return pictures with those that are linked to fetched, unless links are handed on."""
        fetches = not self._references.passes_links(model)
        async with asyncio.TaskGroup() as group:
            finding = [group.create_task(self._one(each, spool, fetches=fetches)) for each in given]
        found: list[Brought | LinkedReference] = []
        for task in finding:
            picture = task.result()
            if isinstance(picture, GatewayError | AssetUnavailableError):
                raise picture
            found.append(picture)
        return found

    async def _one(
        self, given: Given, spool: Spool, *, fetches: bool
    ) -> Brought | LinkedReference | GatewayError | AssetUnavailableError:
        param, picture = given
        if not isinstance(picture, LinkedReference):
            return picture
        try:
            # Nobody else can open a link to this server for certain, and we need not.
            file = await self._references.kept_here(picture.url, spool, param=param)
            if file is None and not fetches:
                self._references.check_link(picture.url, param=param)
                return picture
            if file is None:
                file = await self._references.fetch(picture.url, spool, param=param)
            brought = await self._references.looked_at(file, param=param)
            return replace(brought, url=picture.url)
        except (GatewayError, AssetUnavailableError) as error:
            return error


def _reference(picture: Brought | LinkedReference) -> Reference:
    return picture.reference if isinstance(picture, Brought) else picture


def _check_mask(mask: Brought, first: Brought | LinkedReference, param: str) -> None:
    """Raise BadReference for a mask that says nothing of the first picture.

    The first and the last text are those of EvoLink's documents (protocols/evolink.md §2.3).
    """
    if not mask.header.has_alpha:
        reason = "mask image missing alpha channel"
    elif mask.header.format is not PictureFormat.PNG:
        reason = "mask must be a PNG image"
    elif isinstance(first, Brought) and mask.header.size != first.header.size:
        reason = "mask size does not match image size"
    else:
        return
    raise BadReference(f"Invalid mask image format - {reason}", param=param)


def _no_url(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}': expected a link that begins with https:// or http://, or a data URL"
        " with base64 in it.",
        param=param,
        code="invalid_value",
    )
