import pytest

from gateway.simulator.sizes import Bounds, FreeSizes, NoSizes, free_sizes

TIERED = free_sizes(
    ("auto", "1:1", "16:9"),
    {"1K": 1024, "2K": 2048},
    explicit=Bounds(area=(100, 10_000), aspect=4, edge=(10, 200), step=10),
)


@pytest.mark.parametrize(
    ("size", "tier", "pixels"),
    [
        ("auto", "1K", (1024, 1024)),
        ("auto", "2K", (2048, 2048)),
        ("16:9", "1K", (1360, 768)),
        ("9:16", "2K", (1536, 2736)),
        ("16:9", "", (1360, 768)),
        ("4:3", "1K", None),
        ("100x50", "1K", (100, 50)),
        ("100\u00d750", "2K", (100, 50)),
        ("10x10", "1K", (10, 10)),
        ("100x100", "1K", (100, 100)),
        ("110x100", "1K", None),
        ("15x20", "1K", None),
        ("0x20", "1K", None),
        ("40x10", "1K", (40, 10)),
        ("50x10", "1K", None),
        ("210x20", "1K", None),
    ],
)
def test_ratios_tiers_and_bounds(size: str, tier: str, pixels: tuple[int, int] | None) -> None:
    """Ratios are computed from the tier's area, pixels are taken within inclusive bounds."""
    assert pixels == TIERED.pixels(size, tier)


def test_without_bounds_there_are_no_pixels() -> None:
    """A model may take ratios only."""
    sizes = FreeSizes(resolutions=(), landscape={"1:1": ((8, 8),)})

    assert (None, None, (8, 8)) == tuple(sizes.pixels(size, "") for size in ("auto", "8x8", "1:1"))


def test_models_without_sizes() -> None:
    """The parameter does nothing."""
    assert (1024, 1024) == NoSizes().pixels("whatever", "")
