"""Ways in which models name sizes, each turning ``size`` and a tier into pixels."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_PIXELS = re.compile("(\\d{1,5})[x\u00d7](\\d{1,5})", re.ASCII)
_GRID = 16


class SizeRule(Protocol):
    """Turn ``size`` and the tier (``resolution`` or ``quality``) of a request into pixels."""

    def pixels(self, size: str, resolution: str) -> tuple[int, int] | None:
        """Return (width, height), or ``None`` when the model does not accept the size."""


@dataclass(frozen=True, slots=True)
class FixedSizes:
    """Accept the listed names only; there are no tiers (protocols/evolink.md §2.1)."""

    names: dict[str, tuple[int, int]]

    def pixels(self, size: str, resolution: str) -> tuple[int, int] | None:  # noqa: ARG002 - the rule's shape
        """Return the pixels behind a listed name."""
        return self.names.get(size)


@dataclass(frozen=True, slots=True)
class NoSizes:
    """Ignore ``size``, which the model does not have."""

    always: tuple[int, int] = (1024, 1024)

    def pixels(self, size: str, resolution: str) -> tuple[int, int] | None:  # noqa: ARG002 - the rule's shape
        """Return the one size there is."""
        return self.always


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limit explicit pixels; all limits are inclusive."""

    area: tuple[int, int]
    aspect: int
    """The long edge over the short one."""
    edge: tuple[int, int] = (1, 99_999)
    step: int = 1

    def allow(self, width: int, height: int) -> bool:
        """Tell whether a picture of these edges may be asked for."""
        edges = (width, height)
        return (
            all(self.edge[0] <= edge <= self.edge[1] and edge % self.step == 0 for edge in edges)
            and self.area[0] <= width * height <= self.area[1]
            and max(edges) <= self.aspect * min(edges)
        )


@dataclass(frozen=True, slots=True)
class FreeSizes:
    """Accept ratios times a tier, and perhaps ``auto`` and pixels within bounds."""

    resolutions: tuple[str, ...]
    landscape: dict[str, tuple[tuple[int, int], ...]]
    """Ratio → pixels per tier, in the order of ``resolutions``; portrait is swapped."""
    auto: tuple[int, int] | None = None
    """Pixels of ``auto``, whatever the tier; ``None``: as a ratio, when there is one."""
    explicit: Bounds | None = None

    def pixels(self, size: str, resolution: str) -> tuple[int, int] | None:
        """Return the pixels; the tier counts for ratios only."""
        if size == "auto" and self.auto is not None:
            return self.auto
        given = _PIXELS.fullmatch(size)
        if given is None:
            tier = self.resolutions.index(resolution) if resolution else 0
            return self._of_ratio(size, tier)
        edges = int(given[1]), int(given[2])
        return edges if self.explicit is not None and self.explicit.allow(*edges) else None

    def _of_ratio(self, ratio: str, tier: int) -> tuple[int, int] | None:
        if ratio in self.landscape:
            return self.landscape[ratio][tier]
        mirrored = ":".join(reversed(ratio.split(":")))
        if mirrored in self.landscape:
            width, height = self.landscape[mirrored][tier]
            return height, width
        return None


def free_sizes(
    ratios: Sequence[str], tiers: dict[str, int], *, explicit: Bounds | None = None
) -> FreeSizes:
    """Return ratios times tiers, where a tier is the edge of its square in pixels.

    The pixels of these models are not documented: edges are rounded to multiples of 16, as
    gpt-image-2 does. Ratios are named landscape first; ``auto`` among them is a square.
    """
    edges = list(tiers.values())
    landscape = {
        ratio: tuple(_of_area("1:1" if ratio == "auto" else ratio, edge) for edge in edges)
        for ratio in ratios
    }
    return FreeSizes(resolutions=tuple(tiers), landscape=landscape, explicit=explicit)


def _of_area(ratio: str, edge: int) -> tuple[int, int]:
    wide, high = (int(part) for part in ratio.split(":"))
    width = edge * math.sqrt(wide / high)
    height = edge * math.sqrt(high / wide)
    return _GRID * round(width / _GRID), _GRID * round(height / _GRID)
