import pytest

from gateway.domain.images import Size
from gateway.domain.sizes import (
    FixedSizes,
    FreeSizes,
    NamedSize,
    RatioSizes,
    named_sizes,
    ratios_of,
    size_of,
    tiers_of,
)
from tests.support.factories import FREE_SIZES, LANDSCAPE, PORTRAIT, RATIOS, SQUARE

FIXED = FixedSizes((SQUARE, PORTRAIT, LANDSCAPE))
RATIO = RatioSizes(named_sizes(("1:1", "16:9", "9:16"), {"2K": 2048**2, "1K": 1024**2}))

#: The pixels of landscape ratios at 1K, 2K and 4K (protocols/evolink.md §2.3).
TABLE = {
    "1:1": ((1024, 1024), (2048, 2048), (2880, 2880)),
    "2:1": ((1456, 720), (2896, 1456), (3840, 1920)),
    "3:1": ((1776, 592), (3552, 1184), (3840, 1280)),
    "3:2": ((1248, 832), (2512, 1680), (3520, 2352)),
    "4:3": ((1184, 880), (2368, 1776), (3312, 2480)),
    "5:4": ((1152, 912), (2288, 1824), (3216, 2576)),
    "16:9": ((1360, 768), (2736, 1536), (3840, 2160)),
    "21:9": ((1568, 672), (3136, 1344), (3840, 1632)),
}


@pytest.mark.parametrize("tier", ["1K", "2K", "4K"])
@pytest.mark.parametrize("ratio", RATIOS)
def test_every_size_is_the_published_one_and_can_be_asked_for(ratio: str, tier: str) -> None:
    """The formula gives each cell of the table, and the model makes each of these sizes."""
    mirrored = ":".join(reversed(ratio.split(":")))
    row = TABLE.get(ratio) or tuple(edges[::-1] for edges in TABLE[mirrored])
    size = size_of(FREE_SIZES, ratio, tier)

    assert size == Size(*row[("1K", "2K", "4K").index(tier)])
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


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (Size(1360, 768), NamedSize("16:9", "1K", Size(1360, 768))),
        (Size(1536, 2736), NamedSize("9:16", "2K", Size(1536, 2736))),
        (Size(1344, 768), None),
    ],
)
def test_a_size_that_has_a_name(size: Size, name: NamedSize | None) -> None:
    """A model that is told ratios makes the sizes they stand for, and no others."""
    assert (name, name is not None) == (RATIO.name_of(size), RATIO.allows(size))


def test_the_usual_tier() -> None:
    """A ratio without a tier is of the first; without names there is neither."""
    nameless = FreeSizes(step=1, min_edge=1, max_edge=9, min_pixels=1, max_pixels=81, max_aspect=9)

    assert ("2K", "1K") == tiers_of(RATIO)
    assert {
        "1:1": Size(2048, 2048),
        "16:9": Size(2736, 1536),
        "9:16": Size(1536, 2736),
    } == ratios_of(RATIO)
    assert ((), {}) == (tiers_of(nameless), ratios_of(nameless))


def test_sizes_with_two_names_are_listed_once() -> None:
    """Names may stand for the same pixels; the first of them is told."""
    twice = RatioSizes((NamedSize("1:1", "1K", SQUARE), NamedSize("2:2", "1K", SQUARE)))

    assert ((SQUARE,), "1:1") == (twice.sizes, getattr(twice.name_of(SQUARE), "ratio", None))
