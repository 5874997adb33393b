from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.simulator.models import MODELS
from gateway.simulator.pricing import Usage, charge, cny, text_tokens, usd


@pytest.mark.parametrize(
    ("model", "quality", "size", "tokens"),
    [
        ("gpt-image-1.5", "low", (1024, 1024), 272),
        ("gpt-image-1.5", "low", (1024, 1536), 408),
        ("gpt-image-1.5", "low", (1536, 1024), 400),
        ("gpt-image-1.5", "medium", (1024, 1024), 1056),
        ("gpt-image-1.5", "medium", (1024, 1536), 1584),
        ("gpt-image-1.5", "medium", (1536, 1024), 1568),
        ("gpt-image-1", "high", (1024, 1024), 4160),
        ("gpt-image-1", "high", (1024, 1536), 6240),
        ("gpt-image-1", "high", (1536, 1024), 6208),
        ("gpt-image-2", "low", (1024, 1024), 196),
        ("gpt-image-2", "medium", (1024, 1024), 1756),
        ("gpt-image-2", "high", (1024, 1024), 7024),
        ("gpt-image-2", "low", (1776, 592), 62),
        ("gpt-image-2", "low", (592, 1776), 62),
        ("gpt-image-2", "high", (2880, 2880), 23719),
        # 16 * 1088 / 2048 is 8.5: halves go up.
        ("gpt-image-2", "low", (2048, 1088), 153),
    ],
)
def test_picture_tokens(model: str, quality: str, size: tuple[int, int], tokens: int) -> None:
    """Tokens of a picture are the published ones, at both ends of every range."""
    assert tokens == MODELS[model].output.tokens(quality, *size)


@pytest.mark.parametrize(
    ("model", "usage", "total"),
    [
        ("gpt-image-1.5", Usage(272, 0, 0), "0.5326848"),
        ("gpt-image-1.5", Usage(272, 0, 7), "0.5348268"),
        ("gpt-image-1.5", Usage(6240, 16 * 1536, 0), "24.2528256"),
        ("gpt-image-1", Usage(272, 0, 0), "0.665856"),
        ("gpt-image-1", Usage(6240, 16 * 1536, 0), "30.316032"),
        ("gpt-image-2", Usage(62, 0, 0), "0.113832"),
        ("gpt-image-2", Usage(23719, 16 * 1536, 0), "55.5804936"),
        ("gpt-image-1.5", Usage(0, 0, 0, 1000, 0), "0.1224"),
        ("gpt-image-1.5", Usage(0, 0, 0, 0, 1000), "0.0765"),
    ],
)
def test_published_totals(model: str, usage: Usage, total: str) -> None:
    """Charges reproduce the published price ranges to the last digit."""
    assert Decimal(total) == charge(MODELS[model].prices, usage)


def test_total_tokens_sums_every_category() -> None:
    """The total is the sum of the five counts."""
    assert Usage(1, 10, 100, 1000, 10000).total_tokens == 11111


def test_conversions() -> None:
    """68 credits are one dollar and 10 credits one yuan."""
    assert (Decimal("0.007834"), Decimal("0.05326848")) == (
        usd(Decimal("0.5326848")),
        cny(Decimal("0.5326848")),
    )


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("a red fox", 3), ("a red, red fox!", 6), ("", 1), ("   ", 1), ("여우 한 마리", 3)],
)
def test_text_tokens(prompt: str, tokens: int) -> None:
    """Words and signs count one each, and nothing counts one."""
    assert tokens == text_tokens(prompt)


@given(st.text(min_size=1))
def test_text_tokens_never_pass_the_bytes(prompt: str) -> None:
    """Whoever reserves one token per UTF-8 byte has reserved enough."""
    assert 1 <= text_tokens(prompt) <= len(prompt.encode("utf-8", "surrogatepass"))
