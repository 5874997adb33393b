import math

import pytest

from gateway.domain.catalog import FixedSizes
from gateway.domain.images import Size
from gateway.domain.ratios import RATIOS, TIERS, size_of
from tests.support.factories import FREE_SIZES, LANDSCAPE, PORTRAIT, SQUARE

FIXED = FixedSizes((SQUARE, PORTRAIT, LANDSCAPE))

#: protocols/evolink.md §2.3, in its words.
WORDS = "1:1 1:2 2:1 1:3 3:1 2:3 3:2 3:4 4:3 4:5 5:4 9:16 16:9 9:21 21:9"
NAMED = tuple(WORDS.split(" "))
AREAS = {"1K": 1024**2, "2K": 2048**2, "4K": 3840 * 2160}


def calculated(ratio: str, tier: str) -> Size:
    """Return a size by the formula that gives every cell of the table (§2.3)."""
    wide, high = map(int, ratio.split(":"))
    width = math.sqrt(AREAS[tier] * wide / high)
    height = math.sqrt(AREAS[tier] * high / wide)
    near = [16 * round(edge / 16) for edge in (width, height)]
    if max(near) <= 3840 and math.prod(near) <= 8_294_400:
        return Size(*near)
    scale = min(1, 3840 / max(width, height))
    return Size(*(16 * math.floor(scale * edge / 16 + 1e-9) for edge in (width, height)))


def test_there_are_fifteen_ratios() -> None:
    """Landscape and portrait of each, and the square once."""
    assert sorted(NAMED) == sorted(RATIOS)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("ratio", NAMED)
def test_every_size_is_the_formulas_and_can_be_asked_for(ratio: str, tier: str) -> None:
    """The table and the formula agree, and the model makes each of these sizes."""
    size = size_of(FREE_SIZES, ratio, tier)

    assert calculated(ratio, tier) == size
    assert size is not None
    assert FREE_SIZES.allows(size)


@pytest.mark.parametrize(
    ("ratio", "tier", "size"),
    [
        ("1:1", "1K", SQUARE),
        ("2:3", "1K", PORTRAIT),
        ("3:2", "1K", LANDSCAPE),
        ("16:9", "1K", None),
        ("1:1", "2K", None),
        ("2:2", "1K", None),
        ("auto", "1K", None),
    ],
)
def test_listed_sizes_are_named_by_their_ratio(ratio: str, tier: str, size: Size | None) -> None:
    """A model with a list of sizes makes those ratios and that one resolution (§2.1)."""
    assert size == size_of(FIXED, ratio, tier)


def test_a_size_beyond_the_rule_is_none() -> None:
    """Where a model makes smaller pictures only, the ratio does not name a larger one."""
    small = FREE_SIZES.__class__(
        step=16, min_edge=16, max_edge=2048, min_pixels=1, max_pixels=2**22, max_aspect=3
    )

    assert size_of(small, "16:9", "4K") is None
    assert size_of(small, "16:9", "1K") == Size(1360, 768)
