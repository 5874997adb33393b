"""Bodies of `POST /v1/images/edits`, as forms and as JSON → the request and its pictures.

Refused with OpenAI's words where they are on record (protocols/openai_images.md §3 and §7), and in
its order: pictures after the prompt and before `n`. So pictures that are here are looked at before
the fields are, and what is wrong with them is told when it is their turn; what a link leads to is
fetched when everything else is right.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from starlette.requests import Request

from gateway.assets.spool import Spool
from gateway.domain.errors import GatewayError, InvalidRequest, UnsupportedImage
from gateway.domain.images import ImageRequest, LinkedReference, Operation, References
from gateway.domain.references import MAX_REFERENCE_BYTES, MAX_REFERENCES
from gateway.edge.params import Checker, Param, check_length, missing, unknown, wrong_type
from gateway.edge.parse import FieldRules, Reading, json_object, read_fields, read_generation
from gateway.edge.pictures import Edit, Given, PictureReader
from gateway.edge.spooled_json import MAX_URL_CHARS, DataUrl, check_short, read_json
from gateway.edge.uploads import Form, boundary_of, read_form
from gateway.service.references import Brought


class EditReader:
    """Reads bodies of edits; `max_rest_bytes` is what JSON may have beside its pictures."""

    def __init__(self, pictures: PictureReader, rules: FieldRules, *, max_rest_bytes: int) -> None:
        self._pictures = pictures
        self._rules = rules
        self._max_rest_bytes = max_rest_bytes

    async def read(self, request: Request, spool: Spool) -> Edit:
        """Read the body of an edit, and fetch what it links to.

        Raises InvalidRequest, UnsupportedImage, BadReference, BodyTooLarge and
        AssetUnavailableError.
        """
        boundary = boundary_of(request.headers.get("content-type", ""))
        if boundary is not None:
            reading = await self._read_form(request.stream(), boundary, spool)
        else:
            reading = await self._read_json(request.stream(), spool)
        return await self._edit(reading, spool)

    async def read_to_price(self, request: Request, spool: Spool) -> ImageRequest:
        """Read the body of a generation or an edit; what an edit links to is not looked at.

        Raises what `read` does.
        """
        boundary = boundary_of(request.headers.get("content-type", ""))
        if boundary is not None:
            return _counted(await self._read_form(request.stream(), boundary, spool))
        fields, strings = await self._fields(request.stream(), spool)
        if not any(name in fields for name in ("images", "image", "image[]", "mask")):
            return read_generation(fields, self._rules)
        return _counted(await self._read_edit_fields(fields, strings, spool))

    async def _read_form(self, body: AsyncIterator[bytes], boundary: str, spool: Spool) -> Reading:
        form = await read_form(body, boundary, spool, max_file_bytes=MAX_REFERENCE_BYTES)
        images, masks = await self._uploaded(form)
        fields: dict[str, object] = {"image": images, **form.fields}
        if masks:
            fields["mask"] = masks[-1]
        return read_fields(fields, self._rules, Operation.EDIT, own=FORM_PICTURES, as_text=True)

    async def _uploaded(self, form: Form) -> tuple[list[Given], list[Given]]:
        """Return the pictures and masks of a form. Raises InvalidRequest for other files."""
        files = [each for each in form.files if each.file.size_bytes or each.named]
        images = [each for each in files if each.field in ("image", "image[]")]
        is_list = len(images) > 1 or any(each.field == "image[]" for each in images)
        pictures: list[Given] = []
        masks: list[Given] = []
        for each in files:
            match each.field:
                case "image" | "image[]":
                    name = f"image[{len(pictures)}]" if is_list else "image"
                    pictures.append((name, await self._pictures.uploaded(each, name)))
                case "mask":
                    masks.append(("mask", await self._pictures.uploaded(each, "mask")))
                case "images":
                    raise InvalidRequest(
                        "Unknown parameter: 'images'. For multipart/form-data use 'image' or"
                        " 'image[]'.",
                        param="images",
                        code="invalid_value",
                    )
                case "markup":
                    raise UnsupportedImage(
                        "'markup' is not supported by the models here.",
                        param="markup",
                        code="invalid_value",
                    )
                case name:
                    raise unknown(name[:100])
        return pictures, masks

    async def _read_json(self, body: AsyncIterator[bytes], spool: Spool) -> Reading:
        fields, strings = await self._fields(body, spool)
        return await self._read_edit_fields(fields, strings, spool)

    async def _fields(
        self, body: AsyncIterator[bytes], spool: Spool
    ) -> tuple[dict[str, object], Mapping[str, DataUrl]]:
        spooled = await read_json(body, spool, max_rest_bytes=self._max_rest_bytes)
        fields = json_object(spooled.text)
        check_short(fields, spooled)
        return fields, spooled.strings

    async def _read_edit_fields(
        self, fields: dict[str, object], strings: Mapping[str, DataUrl], spool: Spool
    ) -> Reading:
        for name in ("image", "image[]"):
            if name in fields:
                raise InvalidRequest(
                    f"Unknown parameter: '{name}'. For application/json on /v1/images/edits, use"
                    " 'images' (array).",
                    param=name,
                    code="invalid_value",
                )
        fields = dict(fields)
        if "images" in fields and isinstance(fields["images"], list):
            fields["images"] = [
                await self._entry(each, f"images[{index}]", strings, spool)
                for index, each in enumerate(fields["images"][: MAX_REFERENCES + 1])
            ]
        elif "images" not in fields:
            fields["images"] = MISSING
        if fields.get("mask") is not None:
            fields["mask"] = await self._entry(fields["mask"], "mask", strings, spool)
        return read_fields(fields, self._rules, Operation.EDIT, own=JSON_PICTURES)

    async def _entry(
        self, entry: object, name: str, strings: Mapping[str, DataUrl], spool: Spool
    ) -> Given:
        """Return one entry of `images`, or the mask, as the table of fields takes it."""
        try:
            url = _url_of(entry, name)
        except InvalidRequest as refusal:
            return name, refusal
        return await self._pictures.named(url, f"{name}.image_url", strings, spool)

    async def _edit(self, reading: Reading, spool: Spool) -> Edit:
        images, mask = _pictures_of(reading)
        return await self._pictures.edit(reading.request, images, mask, reading.model, spool)


#: Stands for `images` that were left out: they are told as missing when it is their turn.
MISSING = object()


def _checked_list(name: str, value: object) -> list[Given]:
    """Take pictures that were looked at; refuse what is wrong with the first that is."""
    if value is MISSING or (name == "image" and value == []):
        raise missing(name)
    if not isinstance(value, list):
        raise wrong_type(name, "an array of objects", value)
    check_length(name, value, maximum=MAX_REFERENCES)
    return [_checked_one(name, each) for each in value]


def _checked_one(_: str, value: object) -> Given:
    match value:
        case (str(param), (Brought() | LinkedReference()) as picture):
            return param, picture
        case (str(), GatewayError() as refusal):
            raise refusal
    raise AssertionError("the reader looks at every picture")


#: What an entry of `images` is, for `/openapi.json`.
ENTRY: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "image_url": {"type": "string", "maxLength": MAX_URL_CHARS, "pattern": "^(https?://|data:)"}
    },
    "required": ["image_url"],
    "additionalProperties": False,
}
_FILE = {"type": "string", "format": "binary"}
_ENTRIES, _FILES = (
    {"type": "array", "items": each, "minItems": 1, "maxItems": MAX_REFERENCES}
    for each in (ENTRY, _FILE)
)

JSON_PICTURES = (
    Param("images", Checker(_checked_list, _ENTRIES), nullable=False),
    Param("mask", Checker(_checked_one, ENTRY)),
)
FORM_PICTURES = (
    Param("image", Checker(_checked_list, _FILES), nullable=False),
    Param("mask", Checker(_checked_one, _FILE)),
)


def _pictures_of(reading: Reading) -> tuple[list[Given], Given | None]:
    images = reading.own.get("images", reading.own.get("image"))
    mask = reading.own.get("mask")
    # Both were made by the checkers above.
    return images, mask  # type: ignore[return-value]


def _counted(reading: Reading) -> ImageRequest:
    """Return a request with as many references as it has, whatever they are."""
    images, mask = _pictures_of(reading)
    one = LinkedReference("")
    references = References((one,) * len(images), None if mask is None else one)
    return replace(reading.request, references=references)


def _url_of(entry: object, name: str) -> str:
    """Return the `image_url` of an entry. Raises InvalidRequest."""
    if not isinstance(entry, dict):
        raise wrong_type(name, "an object", entry)
    for key in entry:
        if key not in ("image_url", "file_id"):
            raise unknown(f"{name}.{key}")
    given = [key for key in ("image_url", "file_id") if entry.get(key) is not None]
    if len(given) != 1:
        raise InvalidRequest(
            f"Invalid '{name}': expected exactly one of 'image_url' or 'file_id'.",
            param=name,
            code="invalid_value",
        )
    if given == ["file_id"]:
        raise InvalidRequest(
            "Files are not kept here: give an 'image_url', which may be a data URL.",
            param=f"{name}.file_id",
            code="unsupported_value",
        )
    url = entry["image_url"]
    if not isinstance(url, str):
        raise wrong_type(f"{name}.image_url", "a string", url)
    return url
