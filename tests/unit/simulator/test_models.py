import pytest

from gateway.simulator.models import MODELS


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-1.5"])
@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        ("1:1", (1024, 1024)),
        ("2:3", (1024, 1536)),
        ("3:2", (1536, 1024)),
        ("1024x1024", (1024, 1024)),
        ("1024x1536", (1024, 1536)),
        ("1536x1024", (1536, 1024)),
        ("auto", None),
        ("16:9", None),
        ("2048x2048", None),
    ],
)
def test_older_models_take_six_sizes(model: str, size: str, pixels: tuple[int, int] | None) -> None:
    """The first family has a fixed list and no auto."""
    assert pixels == MODELS[model].sizes.pixels(size, "")


@pytest.mark.parametrize(
    ("size", "resolution", "pixels"),
    [
        ("auto", "4K", (1024, 1024)),
        ("1:1", "1K", (1024, 1024)),
        ("1:1", "2K", (2048, 2048)),
        ("16:9", "2K", (2736, 1536)),
        ("9:16", "4K", (2160, 3840)),
        ("9:21", "1K", (672, 1568)),
        ("4:5", "1K", (912, 1152)),
        ("7:5", "1K", None),
        ("square", "1K", None),
        ("1024x1024", "4K", (1024, 1024)),
        ("2048\u00d71088", "1K", (2048, 1088)),
        ("3840x2160", "1K", (3840, 2160)),
        ("1024x1000", "1K", None),
        ("3856x1600", "1K", None),
        ("0x1024", "1K", None),
        ("800x800", "1K", None),
        ("3840x2176", "1K", None),
        ("2048x640", "1K", None),
        ("1920x640", "1K", (1920, 640)),
    ],
)
def test_newer_model_takes_ratios_and_pixels(
    size: str, resolution: str, pixels: tuple[int, int] | None
) -> None:
    """Ratios follow the table, pixels the limits, and auto is a square."""
    assert pixels == MODELS["gpt-image-2"].sizes.pixels(size, resolution)


def test_every_default_is_acceptable() -> None:
    """A request with a model and a prompt only is valid for every row."""
    for row in MODELS.values():
        resolution = row.resolutions[0] if row.resolutions else ""
        pixels = row.sizes.pixels(row.default_size, resolution)

        assert pixels is not None
        assert row.output.tokens(row.default_quality, *pixels) > 0
