"""A request body in EvoLink's words → `ImageRequest` (protocols/evolink.md §2).

A field that is null was left out. One that we do not know is refused: a picture that is made
without it is paid for all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import orjson

from gateway.domain.catalog import TRANSPARENT, Model, Offer
from gateway.domain.errors import InvalidRequest, NotFound
from gateway.domain.images import ImageRequest, Operation, PictureFormat, Size
from gateway.domain.sizes import ONE_TIER, FreeSizes, size_of, tiers_of
from gateway.edge.fields import prompt_field
from gateway.edge.params import (
    Checker,
    Param,
    choice,
    integer,
    missing,
    text,
    unknown,
    wrong_type,
)

#: Characters of a `callback_url` (protocols/evolink.md §6).
MAX_URL_CHARS = 2_048
#: Tasks that are read at once (protocols/evolink.md §5).
MAX_BATCH = 50

_MASK = text(maximum_chars=MAX_URL_CHARS)


def parse_submit(body: bytes, find_model: Callable[[str], Model | None]) -> ImageRequest:
    """Read the body of `POST /evolink/v1/images/generations`.

    Raises InvalidRequest for the first fault, and NotFound for a model that does not exist.
    """
    fields = {name: value for name, value in _object(body).items() if value is not None}
    model = _model(fields, find_model)
    table = {param.name: param for param in _table(model)}
    for name in fields:
        if name not in table and name not in ("model", "size"):
            raise unknown(name)
    if "prompt" not in fields:
        raise missing("prompt")
    given = {
        name: param.check(name, fields[name]) for name, param in table.items() if name in fields
    }
    _refuse_references(fields)
    tier = str(given.get(_tier_field(model), _tiers(model)[0]))
    named = {"prompt", "n", "quality", "background", "output_format", "callback_url"}
    kept = named - {_tier_field(model)}
    return ImageRequest(
        model=model.name,
        size=_size(model, fields.get("size", "auto"), tier),
        # Every value was checked by the table for exactly the field it goes to.
        **{name: given[name] for name in kept if name in given},  # type: ignore[arg-type]
    )


def parse_batch(body: bytes) -> tuple[str, ...]:
    """Read the body of `POST /evolink/v1/tasks/batch`. Raises InvalidRequest."""
    fields = _object(body)
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


def _object(body: bytes) -> dict[str, object]:
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


def _table(model: Model) -> tuple[Param, ...]:
    """Return the fields that this model has, and how each is checked; sizes are looked up apart."""
    offers = _offers(model)
    qualities = dict.fromkeys(quality for offer in offers for quality in offer.qualities)
    tier = _tier(_tiers(model))
    is_quality = _tier_field(model) == "quality"
    transparent = [TRANSPARENT] if any(offer.transparent for offer in offers) else []
    return (
        prompt_field(model, Operation.GENERATION),
        Param("n", integer(1, 10)),
        Param("quality", tier if is_quality else choice([*qualities, "auto"])),
        *(() if is_quality else (Param("resolution", tier),)),
        Param("background", choice(["opaque", *transparent])),
        Param("output_format", choice([each.value for each in PictureFormat])),
        Param("image_urls", Checker(_links, {"type": "array", "items": {"type": "string"}})),
        # Without references EvoLink ignores it (protocols/evolink.md §2.3).
        Param("mask_url", _MASK),
        Param("callback_url", text(maximum_chars=MAX_URL_CHARS)),
    )


def _offers(model: Model) -> tuple[Offer, ...]:
    return model.offers_for(Operation.GENERATION)


def _tiers(model: Model) -> tuple[str, ...]:
    """Return the tiers that the model's offers have, the usual one first."""
    tiers = dict.fromkeys(tier for offer in _offers(model) for tier in tiers_of(offer.sizes))
    return tuple(tiers) or (ONE_TIER,)


def _tier_field(model: Model) -> str:
    """Return the field that EvoLink's clients tell the tier in (protocols/evolink.md §2.7)."""
    return next(iter(offer.wording.tier_field for offer in _offers(model)), "") or "resolution"


def _tier(tiers: Sequence[str]) -> Checker:
    """Take a resolution, whatever the case of its letter."""
    one_of = choice(tiers)

    def check(name: str, value: object) -> str:
        return str(one_of(name, value.upper() if isinstance(value, str) else value))

    return Checker(check, one_of.schema)


def _links(name: str, value: object) -> object:
    if not isinstance(value, list):
        raise wrong_type(name, "an array", value)
    return value


def _refuse_references(fields: Mapping[str, object]) -> None:
    if fields.get("image_urls"):
        raise InvalidRequest(
            "Reference images are not offered here yet: leave 'image_urls' out.",
            param="image_urls",
            code="unsupported_value",
        )


def _size(model: Model, value: object, tier: str) -> str:
    """Return the pixels of a size that one of the model's offers makes, or `auto`."""
    if not isinstance(value, str):
        raise wrong_type("size", "a string", value)
    if value == "auto":
        return value
    for offer in _offers(model):
        size = size_of(offer.sizes, value, tier) or _pixels(value)
        if size is not None and offer.sizes.allows(size):
            return str(size)
    raise InvalidRequest(
        f"Invalid 'size': '{value[:40]}' with resolution {tier} is not made by '{model.name}'."
        f" Expected {_expected(model)}.",
        param="size",
        code="invalid_value",
    )


def _pixels(value: str) -> Size | None:
    try:
        return Size.parse(value.replace("\u00d7", "x"))
    except ValueError:
        return None


def _expected(model: Model) -> str:
    """Say what sizes there are."""
    words = ["'auto'"]
    for offer in _offers(model):
        rule = offer.sizes
        if not isinstance(rule, FreeSizes):
            ratios = dict.fromkeys(each.ratio for each in rule.named)
            words += [f"'{each}'" for each in (*ratios, *map(str, rule.sizes))]
        else:
            pixels = f"{rule.min_pixels} to {rule.max_pixels} pixels"
            words += ["a ratio such as '16:9'"] if rule.named else []
            words.append(f"WIDTHxHEIGHT, multiples of {rule.step} with {pixels} in all")
    return ", ".join(dict.fromkeys(words))
