"""The models on sale, one row each: what they accept and what they cost.

A new model is a new row of ``MODELS``; a new way to name sizes is a new ``SizeRule``.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from gateway.simulator.pricing import AreaFormula, Prices, TokenTable

_PIXELS = re.compile("(\\d{1,5})[x\u00d7](\\d{1,5})", re.ASCII)
_EDGE_STEP, _EDGE_MAX = 16, 3840
_AREA_MIN, _AREA_MAX = 655_360, 8_294_400
_ASPECT_MAX = 3


class SizeRule(Protocol):
    """Turn ``size`` and ``resolution`` of a request into pixels."""

    def pixels(self, size: str, resolution: str) -> tuple[int, int] | None:
        """Return (width, height), or ``None`` when the model does not accept the size."""


class TokenRule(Protocol):
    """Count the image-output tokens of one picture."""

    def tokens(self, quality: str, width: int, height: int) -> int:
        """Return the tokens that one picture of this quality and size costs."""


@dataclass(frozen=True, slots=True)
class FixedSizes:
    """Accept the listed names only; ``resolution`` does not exist for these models (§2.1)."""

    names: dict[str, tuple[int, int]]

    def pixels(self, size: str, resolution: str) -> tuple[int, int] | None:  # noqa: ARG002 - the rule's shape
        """Return the pixels behind a listed name."""
        return self.names.get(size)


@dataclass(frozen=True, slots=True)
class FreeSizes:
    """Accept ``auto``, ratios times a resolution, and pixels within limits (§2.3)."""

    auto: tuple[int, int]
    resolutions: tuple[str, ...]
    landscape: dict[str, tuple[tuple[int, int], ...]]
    """Ratio → pixels per resolution, in the order of ``resolutions``; portrait is swapped."""

    def pixels(self, size: str, resolution: str) -> tuple[int, int] | None:
        """Return the pixels; ``resolution`` counts for ratios only."""
        if size == "auto":
            return self.auto
        explicit = _PIXELS.fullmatch(size)
        if explicit is not None:
            return _within_limits(int(explicit[1]), int(explicit[2]))
        return self._of_ratio(size, self.resolutions.index(resolution))

    def _of_ratio(self, ratio: str, tier: int) -> tuple[int, int] | None:
        if ratio in self.landscape:
            return self.landscape[ratio][tier]
        mirrored = ":".join(reversed(ratio.split(":")))
        if mirrored in self.landscape:
            width, height = self.landscape[mirrored][tier]
            return height, width
        return None


def _within_limits(width: int, height: int) -> tuple[int, int] | None:
    edges = (width, height)
    fits = (
        all(_EDGE_STEP <= edge <= _EDGE_MAX and edge % _EDGE_STEP == 0 for edge in edges)
        and _AREA_MIN <= width * height <= _AREA_MAX
        and max(edges) <= _ASPECT_MAX * min(edges)
    )
    return edges if fits else None


@dataclass(frozen=True, slots=True)
class Model:
    """Describe one model row; all limits are inclusive."""

    name: str
    prices: Prices
    output: TokenRule
    sizes: SizeRule
    default_size: str
    qualities: tuple[str, ...]
    default_quality: str
    max_pictures: int
    """Largest ``n``."""
    max_prompt_tokens: int | None = None
    max_prompt_characters: int | None = None
    max_references: int = 16
    resolutions: tuple[str, ...] = ()
    """Accepted ``resolution`` values, default first; empty: the parameter is unknown."""
    formats: tuple[str, ...] = ("png",)
    """Accepted ``output_format`` values, default first; one value: the parameter is unknown."""
    backgrounds: tuple[str, ...] = ("opaque",)
    """Accepted ``background`` values, default first; one value: the parameter is unknown."""
    estimated_time_s: int = 100
    """``task_info.estimated_time``; 100 is the documented example for this family (§3)."""


_SIX_SIZES = FixedSizes(
    {
        "1:1": (1024, 1024),
        "2:3": (1024, 1536),
        "3:2": (1536, 1024),
        "1024x1024": (1024, 1024),
        "1024x1536": (1024, 1536),
        "1536x1024": (1536, 1024),
    }
)
_FAMILY_1_TOKENS = TokenTable(
    {"low": (272, 408, 400), "medium": (1056, 1584, 1568), "high": (4160, 6240, 6208)}
)
_RESOLUTIONS = ("1K", "2K", "4K")
_RATIO_SIZES = FreeSizes(
    # The documents leave the choice of `auto` to the model; a square is the family's usual answer.
    auto=(1024, 1024),
    resolutions=_RESOLUTIONS,
    landscape={
        "1:1": ((1024, 1024), (2048, 2048), (2880, 2880)),
        "2:1": ((1456, 720), (2896, 1456), (3840, 1920)),
        "3:1": ((1776, 592), (3552, 1184), (3840, 1280)),
        "3:2": ((1248, 832), (2512, 1680), (3520, 2352)),
        "4:3": ((1184, 880), (2368, 1776), (3312, 2480)),
        "5:4": ((1152, 912), (2288, 1824), (3216, 2576)),
        "16:9": ((1360, 768), (2736, 1536), (3840, 2160)),
        "21:9": ((1568, 672), (3136, 1344), (3840, 1632)),
    },
)

_ROWS = (
    Model(
        name="gpt-image-1.5",
        prices=Prices(
            image_output=Decimal("1.9584"),
            image_input=Decimal("0.4896"),
            image_cached_input=Decimal("0.1224"),
            text_input=Decimal("0.306"),
            text_cached_input=Decimal("0.0765"),
        ),
        output=_FAMILY_1_TOKENS,
        sizes=_SIX_SIZES,
        default_size="1:1",
        qualities=("low", "medium", "high"),
        default_quality="high",
        # The documents say 1, the product page 1-10 (§14 row 9); the stricter one finds mistakes.
        max_pictures=1,
        max_prompt_tokens=2000,
    ),
    Model(
        name="gpt-image-1",
        prices=Prices(
            image_output=Decimal("2.448"),
            image_input=Decimal("0.612"),
            image_cached_input=Decimal("0.153"),
            text_input=Decimal("0.306"),
            text_cached_input=Decimal("0.0765"),
        ),
        output=_FAMILY_1_TOKENS,
        sizes=_SIX_SIZES,
        default_size="1:1",
        qualities=("low", "medium", "high"),
        default_quality="high",
        max_pictures=10,
        max_prompt_tokens=2000,
    ),
    Model(
        name="gpt-image-2",
        prices=Prices(
            image_output=Decimal("1.836"),
            image_input=Decimal("0.4896"),
            # Not published (§18.13). Each known price is nine tenths of OpenAI's, and so are these.
            image_cached_input=Decimal("0.1224"),
            text_input=Decimal("0.306"),
            text_cached_input=Decimal("0.0765"),
        ),
        output=AreaFormula({"low": 16, "medium": 48, "high": 96}),
        sizes=_RATIO_SIZES,
        default_size="auto",
        qualities=("low", "medium", "high"),
        default_quality="medium",
        max_pictures=10,
        max_prompt_characters=32_000,
        resolutions=_RESOLUTIONS,
        formats=("png", "jpeg", "webp"),
        backgrounds=("opaque", "transparent"),
    ),
)
MODELS = {row.name: row for row in _ROWS}
