"""Which sizes an offer makes, and what they are called there.

A size is pixels here. Upstreams also name sizes by a ratio, such as ``16:9``, and a tier, such as
``2K``; a rule that knows such names lists them in `named`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.images import Size

#: The tier of sizes that are named by their ratio alone.
ONE_TIER = "1K"

#: Edges of sizes that are named by a ratio are multiples of this (protocols/evolink.md §2.3).
GRID = 16


@dataclass(frozen=True, slots=True)
class NamedSize:
    """A size and the ratio and tier that stand for it."""

    ratio: str
    tier: str
    size: Size


@dataclass(frozen=True, slots=True)
class FixedSizes:
    """A list of sizes, and nothing else."""

    sizes: tuple[Size, ...]

    def allows(self, size: Size) -> bool:
        """Tell whether the size is in the list."""
        return size in self.sizes

    @property
    def named(self) -> tuple[NamedSize, ...]:
        """Each size by its exact ratio (protocols/evolink.md §2.1)."""
        return tuple(NamedSize(_ratio(size), ONE_TIER, size) for size in self.sizes)


@dataclass(frozen=True, slots=True)
class RatioSizes:
    """Sizes that have names, and no others; the first tier is the usual one."""

    named: tuple[NamedSize, ...]

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Return every size once."""
        return tuple(dict.fromkeys(each.size for each in self.named))

    def allows(self, size: Size) -> bool:
        """Tell whether a name stands for the size."""
        return self.name_of(size) is not None

    def name_of(self, size: Size) -> NamedSize | None:
        """Return the first name of a size, None when it has none."""
        return next((each for each in self.named if each.size == size), None)


class SizeFault(StrEnum):
    """Which bound of `FreeSizes` a size breaks."""

    STEP = "step"
    EDGE = "edge"
    ASPECT = "aspect"
    TOO_FEW_PIXELS = "too_few_pixels"
    TOO_MANY_PIXELS = "too_many_pixels"


@dataclass(frozen=True, slots=True)
class FreeSizes:
    """Any size within bounds, all of them inclusive.

    Edges are multiples of `step` pixels; the longer is at most `max_aspect` times the shorter.
    """

    step: int
    min_edge: int
    max_edge: int
    min_pixels: int
    max_pixels: int
    max_aspect: int
    named: tuple[NamedSize, ...] = ()

    def fault(self, size: Size) -> SizeFault | None:
        """Return the first bound that this size breaks, or None."""
        short, long = sorted((size.width, size.height))
        if short % self.step or long % self.step:
            return SizeFault.STEP
        if short < self.min_edge or long > self.max_edge:
            return SizeFault.EDGE
        if long > short * self.max_aspect:
            return SizeFault.ASPECT
        if size.pixels < self.min_pixels:
            return SizeFault.TOO_FEW_PIXELS
        return SizeFault.TOO_MANY_PIXELS if size.pixels > self.max_pixels else None

    def allows(self, size: Size) -> bool:
        """Tell whether the size keeps to every bound."""
        return self.fault(size) is None


SizeRule = FixedSizes | RatioSizes | FreeSizes


def tiers_of(rule: SizeRule) -> tuple[str, ...]:
    """Return the tiers that a rule's names have, the usual one first."""
    return tuple(dict.fromkeys(each.tier for each in rule.named))


def ratios_of(rule: SizeRule) -> dict[str, Size]:
    """Return what the ratios stand for when no tier is told."""
    usual = tiers_of(rule)[:1]
    return {each.ratio: each.size for each in rule.named if each.tier in usual}


def size_of(rule: SizeRule, ratio: str, tier: str) -> Size | None:
    """Return what a ratio and a tier stand for; None when they name nothing."""
    named = (each.size for each in rule.named if (each.ratio, each.tier) == (ratio, tier))
    return next(named, None)


def named_sizes(
    ratios: Sequence[str], tiers: Mapping[str, int], *, max_edge: int = 0, max_pixels: int = 0
) -> tuple[NamedSize, ...]:
    """Return every ratio in every tier; a tier is the pixels of its square, 0 is no limit.

    Edges are those of that area, to the nearest multiple of 16. Where one is above the limits, both
    shrink until the longer is not, and go down to a multiple: the formula that gives every size
    EvoLink publishes (protocols/evolink.md §2.3).
    """
    return tuple(
        NamedSize(
            ratio, tier, _of_area(ratio, pixels, max_edge or pixels, max_pixels or 2 * pixels)
        )
        for tier, pixels in tiers.items()
        for ratio in ratios
    )


def _of_area(ratio: str, pixels: int, max_edge: int, max_pixels: int) -> Size:
    wide, high = map(int, ratio.split(":"))
    edges = math.sqrt(pixels * wide / high), math.sqrt(pixels * high / wide)
    near = [GRID * round(edge / GRID) for edge in edges]
    if max(near) <= max_edge and math.prod(near) <= max_pixels:
        return Size(*near)
    scale = min(1.0, max_edge / max(edges))
    # A hair is added, or a product that is whole on paper falls below itself.
    return Size(*(GRID * math.floor(scale * edge / GRID + 1e-9) for edge in edges))


def _ratio(size: Size) -> str:
    common = math.gcd(size.width, size.height)
    return f"{size.width // common}:{size.height // common}"
