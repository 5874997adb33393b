"""A request body in EvoLink's words → `ImageRequest` (protocols/evolink.md §2).

A field that is null was left out. One that we do not know is refused: a picture that is made
without it is paid for all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson

from gateway.domain.catalog import TRANSPARENT, Model, Offer
from gateway.domain.errors import InvalidRequest, NotFound, UnsupportedImage
from gateway.domain.images import ImageRequest, Operation, PictureFormat, Size
from gateway.domain.sizes import ONE_TIER, FreeSizes, size_of, tiers_of
from gateway.edge.fields import prompt_field
from gateway.edge.params import (
    Checker,
    Param,
    check_length,
    choice,
    integer,
    missing,
    text,
    too_long,
    unknown,
    wrong_type,
)

#: Characters of a `callback_url` (protocols/evolink.md §6), and of other links.
MAX_URL_CHARS = 2_048
#: Tasks that are read at once (protocols/evolink.md §5).
MAX_BATCH = 50


@dataclass(frozen=True, slots=True)
class Submit:
    """A body of `POST /evolink/v1/images/generations`: its pictures are named and not looked at."""

    request: ImageRequest
    model: Model
    links: tuple[str, ...] = ()
    mask: str | None = None


def parse_submit(said: Mapping[str, object], find_model: Callable[[str], Model | None]) -> Submit:
    """Read the fields of `POST /evolink/v1/images/generations`.

    It is an edit when it has `image_urls` (protocols/evolink.md §2). Raises InvalidRequest for the
    first fault, and NotFound for a model that does not exist.
    """
    fields = {name: value for name, value in said.items() if value is not None}
    model = _model(fields, find_model)
    operation = Operation.EDIT if _has_references(fields, model) else Operation.GENERATION
    offers = model.offers_for(operation)
    table = {param.name: param for param in _table(model, operation, offers)}
    for name in fields:
        if name not in table and name not in ("model", "size"):
            raise unknown(name)
    if "prompt" not in fields:
        raise missing("prompt")
    given = {
        name: param.check(name, fields[name]) for name, param in table.items() if name in fields
    }
    tier = str(given.get(_tier_field(offers), _tiers(offers)[0]))
    named = {"prompt", "n", "quality", "background", "output_format", "callback_url"}
    kept = named - {_tier_field(offers)}
    request = ImageRequest(
        model=model.name,
        size=_size(model, offers, fields.get("size", "auto"), tier),
        # Every value was checked by the table for exactly the field it goes to.
        **{name: given[name] for name in kept if name in given},  # type: ignore[arg-type]
    )
    if operation is Operation.GENERATION:
        # A mask of nothing is ignored there (protocols/evolink.md §2.3).
        return Submit(request, model)
    links = cast("tuple[str, ...]", given["image_urls"])
    return Submit(request, model, links, cast("str | None", given.get("mask_url")))


def parse_batch(body: bytes) -> tuple[str, ...]:
    """Read the body of `POST /evolink/v1/tasks/batch`. Raises InvalidRequest."""
    fields = parse_object(body)
    if "task_ids" not in fields:
        raise missing("task_ids")
    ids = fields["task_ids"]
    if not isinstance(ids, list):
        raise wrong_type("task_ids", "an array", ids)
    if len(ids) > MAX_BATCH:
        raise InvalidRequest(
            f"Invalid 'task_ids': expected at most {MAX_BATCH} ids, but got {len(ids)}.",
            param="task_ids",
            code="array_above_max_length",
        )
    for each in ids:
        if not isinstance(each, str):
            raise wrong_type("task_ids", "an array of strings", each)
    return tuple(dict.fromkeys(ids))


def parse_object(body: bytes) -> dict[str, object]:
    """Return the JSON object of a body. Raises InvalidRequest."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidRequest(
            "The body of your request must be a JSON object.", param=None, code="invalid_type"
        )
    return parsed


def _model(fields: Mapping[str, object], find_model: Callable[[str], Model | None]) -> Model:
    if "model" not in fields:
        raise missing("model")
    name = fields["model"]
    if not isinstance(name, str):
        raise wrong_type("model", "a string", name)
    model = find_model(name)
    if model is None or not model.offers:
        raise NotFound("Specified model not found", param="model", code="model_not_found")
    return model


def _has_references(fields: Mapping[str, object], model: Model) -> bool:
    """Tell whether a picture is to be made from others. Raises InvalidRequest where it has to be.

    An empty list is none: what EvoLink makes of one is unknown (protocols/evolink.md §18).
    """
    if fields.get("image_urls", []) != []:
        return True
    if model.offers_for(Operation.EDIT) and not model.offers_for(Operation.GENERATION):
        raise missing("image_urls")
    return False


def _table(model: Model, operation: Operation, offers: Sequence[Offer]) -> tuple[Param, ...]:
    """Return the fields that this model has, and how each is checked; sizes are looked up apart."""
    qualities = dict.fromkeys(quality for offer in offers for quality in offer.qualities)
    tier = _tier(_tiers(offers))
    is_quality = _tier_field(offers) == "quality"
    transparent = [TRANSPARENT] if any(offer.transparent for offer in offers) else []
    return (
        prompt_field(model, operation),
        Param("image_urls", _links(model)),
        Param("mask_url", _mask(model, operation)),
        Param("n", integer(1, 10)),
        Param("quality", tier if is_quality else choice([*qualities, "auto"])),
        *(() if is_quality else (Param("resolution", tier),)),
        Param("background", choice(["opaque", *transparent])),
        Param("output_format", choice([each.value for each in PictureFormat])),
        Param("callback_url", text(maximum_chars=MAX_URL_CHARS)),
    )


def _tiers(offers: Sequence[Offer]) -> tuple[str, ...]:
    """Return the tiers that the offers have, the usual one first."""
    tiers = dict.fromkeys(tier for offer in offers for tier in tiers_of(offer.sizes))
    return tuple(tiers) or (ONE_TIER,)


def _tier_field(offers: Sequence[Offer]) -> str:
    """Return the field that EvoLink's clients tell the tier in (protocols/evolink.md §2.7)."""
    return next(iter(offer.wording.tier_field for offer in offers), "") or "resolution"


def _tier(tiers: Sequence[str]) -> Checker:
    """Take a resolution, whatever the case of its letter."""
    one_of = choice(tiers)

    def check(name: str, value: object) -> str:
        return str(one_of(name, value.upper() if isinstance(value, str) else value))

    return Checker(check, one_of.schema)


def _links(model: Model) -> Checker:
    """Take as many references as one of the model's offers; what they are is seen later."""
    most = max((offer.max_references for offer in model.offers_for(Operation.EDIT)), default=0)

    def check(name: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise wrong_type(name, "an array of strings", value)
        if value and not most:
            raise UnsupportedImage(
                f"The model '{model.name}' does not take references here.",
                param=name,
                code="invalid_value",
            )
        if value:
            check_length(name, value, maximum=most)
        return tuple(_url(f"{name}[{place}]", each) for place, each in enumerate(value))

    return Checker(check, {"type": "array", "items": {"type": "string"}})


def _mask(model: Model, operation: Operation) -> Checker:
    """Take a mask where there is something to be masked, and somebody who does it."""

    def check(name: str, value: object) -> str:
        url = _url(name, value)
        if operation is Operation.EDIT and not model.takes_masks:
            raise UnsupportedImage(
                f"The model '{model.name}' does not take a mask here.",
                param=name,
                code="mask_not_supported",
            )
        return url

    return Checker(check, {"type": "string"})


def _url(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type(name, "a string", value)
    if len(value) > MAX_URL_CHARS and value[:5].lower() != "data:":
        raise too_long(name, MAX_URL_CHARS, len(value))
    return value


def _size(model: Model, offers: Sequence[Offer], value: object, tier: str) -> str:
    """Return the pixels of a size that one of the offers makes, or `auto`."""
    if not isinstance(value, str):
        raise wrong_type("size", "a string", value)
    if value == "auto":
        return value
    for offer in offers:
        size = size_of(offer.sizes, value, tier) or _pixels(value)
        if size is not None and offer.sizes.allows(size):
            return str(size)
    raise InvalidRequest(
        f"Invalid 'size': '{value[:40]}' with resolution {tier} is not made by '{model.name}'."
        f" Expected {_expected(offers)}.",
        param="size",
        code="invalid_value",
    )


def _pixels(value: str) -> Size | None:
    try:
        return Size.parse(value.replace("\u00d7", "x"))
    except ValueError:
        return None


def _expected(offers: Sequence[Offer]) -> str:
    """Say what sizes there are."""
    words = ["'auto'"]
    for offer in offers:
        rule = offer.sizes
        if not isinstance(rule, FreeSizes):
            ratios = dict.fromkeys(each.ratio for each in rule.named)
            words += [f"'{each}'" for each in (*ratios, *map(str, rule.sizes))]
        else:
            pixels = f"{rule.min_pixels} to {rule.max_pixels} pixels"
            words += ["a ratio such as '16:9'"] if rule.named else []
            words.append(f"WIDTHxHEIGHT, multiples of {rule.step} with {pixels} in all")
    return ", ".join(dict.fromkeys(words))
