"""Read a submit's JSON object against its model's row (protocols/evolink.md §2).

Unknown parameters are ignored and ``null`` counts as absent: the documents are silent (§18.4), and
the JSON decoders of such services behave that way. Wrong types and values outside an enum are 400.
"""

from dataclasses import dataclass
from typing import Any

from gateway.simulator.errors import RefusedError, invalid_request
from gateway.simulator.faults import MODEL_NOT_FOUND
from gateway.simulator.models import MODELS, Model
from gateway.simulator.pricing import REFERENCE_IMAGE_TOKENS, Usage, text_tokens


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

    @property
    def usage(self) -> Usage:
        """Count the tokens that this order is billed when it completes."""
        per_picture = self.model.output.tokens(self.quality, self.width, self.height)
        return Usage(
            image_output_tokens=per_picture * self.pictures,
            image_input_tokens=REFERENCE_IMAGE_TOKENS * len(self.references),
            text_input_tokens=text_tokens(self.prompt),
        )


def read_order(body: dict[str, Any], prompt: str) -> Order:
    """Return the order in ``body``, drawing ``prompt``; raise ``RefusedError`` (400 or 404)."""
    model = _model(body)
    _check_prompt(model, prompt)
    width, height = _pixels(body, model)
    output_format = _formatted(body, "output_format", model.formats)
    transparent = _formatted(body, "background", model.backgrounds) == "transparent"
    if transparent and output_format == "jpeg":
        raise invalid_request("background transparent needs png or webp", "background")
    return Order(
        model=model,
        prompt=prompt,
        width=width,
        height=height,
        quality=_one_of(body, "quality", model.qualities, model.default_quality),
        pictures=_pictures(body, model),
        references=_references(body, model),
        output_format=output_format,
        transparent=transparent,
    )


def read_prompt(body: dict[str, Any]) -> str:
    """Return the prompt as it was sent; raise ``RefusedError`` when there is none."""
    prompt = _text(body, "prompt")
    if not prompt:
        raise invalid_request("prompt is required", "prompt")
    return prompt


def _model(body: dict[str, Any]) -> Model:
    name = _text(body, "model")
    if not name:
        raise invalid_request("model is required", "model")
    if name not in MODELS:
        raise RefusedError(MODEL_NOT_FOUND)
    return MODELS[name]


def _check_prompt(model: Model, prompt: str) -> None:
    too_many_tokens = (
        model.max_prompt_tokens is not None and text_tokens(prompt) > model.max_prompt_tokens
    )
    too_many_characters = (
        model.max_prompt_characters is not None and len(prompt) > model.max_prompt_characters
    )
    if too_many_tokens or too_many_characters:
        raise invalid_request("Prompt is too long", "prompt")


def _pixels(body: dict[str, Any], model: Model) -> tuple[int, int]:
    size = _text(body, "size") or model.default_size
    resolution = ""
    if model.resolutions:
        asked = (_text(body, "resolution") or model.resolutions[0]).upper()
        resolution = _one_of({"resolution": asked}, "resolution", model.resolutions, asked)
    pixels = model.sizes.pixels(size, resolution)
    if pixels is None:
        raise invalid_request("size is not supported by this model", "size")
    return pixels


def _formatted(body: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    if len(allowed) == 1:
        return allowed[0]
    return _one_of(body, name, allowed, allowed[0])


def _pictures(body: dict[str, Any], model: Model) -> int:
    count = body.get("n")
    if count is None:
        return 1
    if not isinstance(count, int) or isinstance(count, bool):
        raise invalid_request("n must be an integer", "n")
    if not 1 <= count <= model.max_pictures:
        raise invalid_request(f"n must be between 1 and {model.max_pictures}", "n")
    return count


def _references(body: dict[str, Any], model: Model) -> tuple[str, ...]:
    links = body.get("image_urls")
    if links is None:
        return ()
    if not isinstance(links, list) or not 1 <= len(links) <= model.max_references:
        raise invalid_request(
            f"image_urls must hold 1 to {model.max_references} links", "image_urls"
        )
    for link in links:
        if not isinstance(link, str) or not link.casefold().startswith(("http://", "https://")):
            raise invalid_request("image_urls must hold http or https links", "image_urls")
    return tuple(links)


def _one_of(body: dict[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = _text(body, name) or default
    if value not in allowed:
        raise invalid_request(f"{name} must be one of {', '.join(allowed)}", name)
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid_request(f"{name} must be a string", name)
    return value
