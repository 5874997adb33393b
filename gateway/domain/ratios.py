"""Sizes that are named by their ratio, such as ``16:9``, and a resolution, such as ``2K``."""

from __future__ import annotations

from gateway.domain.catalog import FixedSizes, SizeRule
from gateway.domain.images import Size

#: The resolutions, the one that counts when none is told first.
TIERS = ("1K", "2K", "4K")

#: Pixels of landscape ratios in each resolution (protocols/evolink.md §2.3); portrait is swapped.
_LANDSCAPE = {
    (1, 1): (Size(1024, 1024), Size(2048, 2048), Size(2880, 2880)),
    (2, 1): (Size(1456, 720), Size(2896, 1456), Size(3840, 1920)),
    (3, 1): (Size(1776, 592), Size(3552, 1184), Size(3840, 1280)),
    (3, 2): (Size(1248, 832), Size(2512, 1680), Size(3520, 2352)),
    (4, 3): (Size(1184, 880), Size(2368, 1776), Size(3312, 2480)),
    (5, 4): (Size(1152, 912), Size(2288, 1824), Size(3216, 2576)),
    (16, 9): (Size(1360, 768), Size(2736, 1536), Size(3840, 2160)),
    (21, 9): (Size(1568, 672), Size(3136, 1344), Size(3840, 1632)),
}

#: What `size` may name: 15 ratios, landscape and portrait.
RATIOS = {
    f"{width}:{height}": (width, height)
    for wide in _LANDSCAPE
    for width, height in dict.fromkeys([wide, wide[::-1]])
}


def size_of(rule: SizeRule, ratio: str, tier: str) -> Size | None:
    """Return the size that a rule's model makes of a ratio; None when it makes none.

    Of a list of sizes it is the one of exactly that ratio, and there is one resolution.
    """
    if ratio not in RATIOS:
        return None
    width, height = RATIOS[ratio]
    if isinstance(rule, FixedSizes):
        fitting = (size for size in rule.sizes if size.width * height == size.height * width)
        return next(fitting, None) if tier == TIERS[0] else None
    if width >= height:
        size = _LANDSCAPE[width, height][TIERS.index(tier)]
    else:
        wide = _LANDSCAPE[height, width][TIERS.index(tier)]
        size = Size(wide.height, wide.width)
    return size if rule.allows(size) else None
