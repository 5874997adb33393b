"""Read a submit's JSON object against its model's row (protocols/evolink.md §2).

Unknown parameters are ignored and ``null`` counts as absent: the documents are silent (§18.4), and
the JSON decoders of such services behave that way. Wrong types and values outside an enum are 400.
A prompt can ask for other leanings (``script.Leaning``).
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gateway.simulator.errors import Problem, RefusedError, invalid_request
from gateway.simulator.faults import MODEL_NOT_FOUND
from gateway.simulator.model import Model
from gateway.simulator.models import MODELS, OTHER_MODELS
from gateway.simulator.params import find
from gateway.simulator.pricing import REFERENCE_IMAGE_TOKENS, Usage, charge, text_tokens
from gateway.simulator.script import Leaning
from gateway.simulator.targets import read_target

_KNOWN = frozenset({"model", "prompt", "callback_url"})
_NO_LEANINGS: frozenset[Leaning] = frozenset()


@dataclass(frozen=True, slots=True)
class Order:
    """Hold one accepted request: what to draw and what it costs."""

    model: Model
    prompt: str
    """The prompt without its markers."""
    width: int
    height: int
    quality: str
    pictures: int
    references: tuple[str, ...]
    output_format: str
    transparent: bool
    mask: str = ""
    """Link of the mask; empty without one, and without references."""
    callback_url: str = ""

    @property
    def usage(self) -> Usage:
        """Count the tokens that this order is billed when it completes."""
        return self.usage_of(self.pictures)

    def usage_of(self, pictures: int) -> Usage:
        """Count the tokens that are billed when so many pictures are made."""
        if self.model.per_picture is not None:
            return Usage(0, 0, 0)
        per_picture = self.model.output.tokens(self.quality, self.width, self.height)
        return Usage(
            image_output_tokens=per_picture * pictures,
            image_input_tokens=REFERENCE_IMAGE_TOKENS * len(self.references),
            text_input_tokens=text_tokens(self.prompt),
        )

    def price_of(self, pictures: int) -> Decimal:
        """Return the exact credits that so many pictures cost."""
        by_picture = self.model.per_picture
        if by_picture is not None:
            return by_picture.charge(pictures, self.width, self.height, len(self.references))
        return charge(self.model.prices, self.usage_of(pictures))


def read_order(
    body: dict[str, Any],
    prompt: str,
    *,
    leanings: frozenset[Leaning] = _NO_LEANINGS,
    strict_callbacks: bool = False,
) -> Order:
    """Return the order in ``body``, drawing ``prompt``; raise ``RefusedError`` (400 or 404)."""
    model = _model(body, OTHER_MODELS if Leaning.OTHER in leanings else MODELS)
    return _Reader(body, model, leanings).order(prompt, strict_callbacks=strict_callbacks)


def read_prompt(body: dict[str, Any]) -> str:
    """Return the prompt as it was sent; raise ``RefusedError`` when there is none."""
    prompt = body.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        raise invalid_request("prompt must be a string", "prompt")
    if prompt:
        return prompt
    model = MODELS.get(str(body.get("model")))
    if model is not None and model.missing_prompt_status != invalid_request("").problem.status:
        raise RefusedError(
            Problem(model.missing_prompt_status, "", "This field is required", "api_error")
        )
    raise invalid_request("prompt is required", "prompt")


def _model(body: dict[str, Any], models: dict[str, Model]) -> Model:
    name = body.get("model")
    if name is not None and not isinstance(name, str):
        raise invalid_request("model must be a string", "model")
    if not name:
        raise invalid_request("model is required", "model")
    if name not in models:
        raise RefusedError(MODEL_NOT_FOUND)
    return models[name]


class _Reader:
    """Read the fields of one body by the rules of one model."""

    def __init__(self, body: dict[str, Any], model: Model, leanings: frozenset[Leaning]) -> None:
        self._body = body
        self._model = model
        self._leanings = leanings

    def order(self, prompt: str, *, strict_callbacks: bool) -> Order:
        """Return the order; raise ``RefusedError`` (400)."""
        model = self._model
        self._check_names()
        self._check_prompt(prompt)
        self._check_params()
        width, height = self._pixels()
        output_format = self._formatted(model.format_field, model.formats)
        transparent = self._formatted("background", model.backgrounds) == "transparent"
        if transparent and output_format == "jpeg":
            raise invalid_request("background transparent needs png or webp", "background")
        references, pictures = self._references(), self._pictures()
        self._check_together(len(references), pictures)
        return Order(
            model=model,
            prompt=prompt,
            width=width,
            height=height,
            quality=self._quality(),
            pictures=pictures,
            references=references,
            output_format=output_format,
            transparent=transparent,
            # Without a reference a mask is silently ignored (§2.3).
            mask=self._mask() if references else "",
            callback_url=read_target(self._body.get("callback_url"), strict=strict_callbacks),
        )

    def _check_names(self) -> None:
        if Leaning.NO_UNKNOWN not in self._leanings:
            return
        unknown = sorted(set(self._body) - self._known())
        if unknown:
            raise invalid_request(f"unknown parameter {unknown[0]}", unknown[0])

    def _known(self) -> frozenset[str]:
        model = self._model
        present = {
            "size": True,
            "quality": bool(model.qualities),
            model.resolution_field: bool(model.resolutions),
            "n": model.counts is not None,
            "image_urls": model.references is not None,
            "mask_url": model.mask,
            model.format_field.partition(".")[0]: len(model.formats) > 1,
            "background": len(model.backgrounds) > 1,
        }
        names = {name.partition(".")[0] for name in model.params}
        return _KNOWN | names | {name for name, known in present.items() if known}

    def _check_prompt(self, prompt: str) -> None:
        model = self._model
        too_long = (
            _beyond(model.max_prompt_characters, len(prompt))
            or _beyond(model.max_prompt_bytes, len(prompt.encode("utf-8", "surrogatepass")))
            or _beyond(model.max_prompt_tokens, text_tokens(prompt))
        )
        if too_long:
            raise invalid_request("Prompt is too long", "prompt")

    def _check_params(self) -> None:
        if Leaning.LENIENT in self._leanings:
            return
        for name, rule in self._model.params.items():
            value = find(self._body, name)
            refusal = "" if value is None else rule.refusal(value)
            if refusal:
                raise invalid_request(f"{name} {refusal}", name)

    def _pixels(self) -> tuple[int, int]:
        model = self._model
        size = self._text("size") or model.default_size
        tier = ""
        if model.resolutions:
            tier = self._one_of(
                model.resolution_field, model.resolutions, model.resolutions[0], upper=True
            )
        pixels = model.sizes.pixels(size, tier)
        if pixels is None and Leaning.LENIENT in self._leanings:
            pixels = model.sizes.pixels(model.default_size, tier)
        if pixels is None:
            raise invalid_request("size is not supported by this model", "size")
        return pixels

    def _quality(self) -> str:
        model = self._model
        if not model.qualities:
            return model.default_quality
        return self._one_of("quality", model.qualities, model.default_quality)

    def _formatted(self, name: str, allowed: tuple[str, ...]) -> str:
        return allowed[0] if len(allowed) == 1 else self._one_of(name, allowed, allowed[0])

    def _pictures(self) -> int:
        counts, count = self._model.counts, self._body.get("n")
        if counts is None or count is None:
            return 1
        if isinstance(count, int) and not isinstance(count, bool) and count in counts:
            if count > 1 and self._model.size_for_one_only and self._text("size"):
                raise invalid_request("size needs n to be 1", "size")
            return count
        if Leaning.LENIENT in self._leanings:
            return 1
        if not isinstance(count, int) or isinstance(count, bool):
            raise invalid_request("n must be an integer", "n")
        raise invalid_request(f"n must be between {min(counts)} and {max(counts)}", "n")

    def _references(self) -> tuple[str, ...]:
        rule, links = self._model.references, self._body.get("image_urls")
        if rule is None:
            return ()
        if links is None or (links == [] and Leaning.EMPTY_REFERENCES in self._leanings):
            if rule.required:
                raise invalid_request("image_urls is required", "image_urls")
            return ()
        if not isinstance(links, list) or not 1 <= len(links) <= rule.most:
            raise invalid_request(f"image_urls must hold 1 to {rule.most} links", "image_urls")
        return tuple(self._link(link, "image_urls") for link in links)

    def _mask(self) -> str:
        if not self._model.mask or self._body.get("mask_url") is None:
            return ""
        return self._link(self._body["mask_url"], "mask_url")

    def _link(self, link: Any, param: str) -> str:
        schemes: tuple[str, ...] = ("http://", "https://")
        if Leaning.DATA_URLS in self._leanings:
            schemes = (*schemes, "data:")
        if not isinstance(link, str) or not link.casefold().startswith(schemes):
            raise invalid_request(f"{param} must hold http or https links", param)
        return link

    def _check_together(self, references: int, pictures: int) -> None:
        most = self._model.together_most
        if most is not None and references + pictures > most:
            raise invalid_request(f"images and n together must be at most {most}", "n")

    def _one_of(
        self, name: str, allowed: tuple[str, ...], default: str, *, upper: bool = False
    ) -> str:
        value = self._text(name) or default
        value = value.upper() if upper else value
        if value in allowed:
            return value
        if Leaning.LENIENT in self._leanings:
            return default
        raise invalid_request(f"{name} must be one of {', '.join(allowed)}", name)

    def _text(self, name: str) -> str:
        value = find(self._body, name)
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if Leaning.LENIENT in self._leanings:
            return ""
        raise invalid_request(f"{name} must be a string", name)


def _beyond(most: int | None, length: int) -> bool:
    return most is not None and length > most
