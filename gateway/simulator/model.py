"""What a row of the price list says about a model; the rows are in ``models.py``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.simulator.params import ParamRule
from gateway.simulator.pricing import PicturePrices, Prices
from gateway.simulator.sizes import SizeRule

MEGABYTE = 1024 * 1024


class TokenRule(Protocol):
    """Count the image-output tokens of one picture."""

    def tokens(self, quality: str, width: int, height: int) -> int:
        """Return the tokens that one picture of this quality and size costs."""


@dataclass(frozen=True, slots=True)
class ReferenceRule:
    """Limit the reference images of a request; all limits are inclusive."""

    most: int = 16
    max_bytes: int = 50 * MEGABYTE
    required: bool = False
    formats: tuple[str, ...] = ("jpeg", "png", "webp")
    edge: tuple[int, int] = (1, 23_170)
    max_area: int = 178_956_970


@dataclass(frozen=True, slots=True)
class Model:
    """Describe one model row; all limits are inclusive."""

    name: str
    prices: Prices
    output: TokenRule
    sizes: SizeRule
    default_size: str
    qualities: tuple[str, ...]
    """Accepted ``quality`` values; empty: the parameter is unknown, or names the tier."""
    default_quality: str
    counts: Sequence[int] | None
    """Accepted values of ``n``; ``None``: the parameter is unknown, and there is one picture."""
    per_picture: PicturePrices | None = None
    """Prices of a model that is not billed by tokens; ``prices`` are then nothing."""
    max_prompt_tokens: int | None = None
    max_prompt_characters: int | None = None
    max_prompt_bytes: int | None = None
    references: ReferenceRule | None = field(default_factory=ReferenceRule)
    """``None``: ``image_urls`` is unknown."""
    together_most: int | None = None
    """Most references and pictures together."""
    mask: bool = False
    """Whether ``mask_url`` is known; an alpha mask (§2.3)."""
    resolutions: tuple[str, ...] = ()
    """Accepted tiers, default first; empty: there are none."""
    resolution_field: str = "resolution"
    """Name of the parameter that holds the tier: the Gemini, Seedream and Qwen rows use
    ``quality`` (§2.7)."""
    formats: tuple[str, ...] = ("png",)
    """Accepted file types, default first; one value: the parameter is unknown."""
    format_field: str = "output_format"
    backgrounds: tuple[str, ...] = ("opaque",)
    """Accepted ``background`` values, default first; one value: the parameter is unknown."""
    params: dict[str, ParamRule] = field(default_factory=dict)
    """Rules of the parameters that only this model has, by name."""
    size_for_one_only: bool = False
    """Whether ``size`` is refused together with ``n`` above 1."""
    missing_prompt_status: int = 400
    """A nano-banana submit without a prompt was seen to be a 500 (§9.3)."""
    estimated_time_s: int = 100
    """``task_info.estimated_time``; 100 is the documented example for the GPT family (§3)."""
