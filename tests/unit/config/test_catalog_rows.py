from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.catalog_rows import ModelRow, OfferRow, SizeRows
from gateway.domain.catalog import Channel, OpenAiRules, PromptLimits, SizeWords, Wording
from gateway.domain.images import PictureFormat, Size
from gateway.domain.sizes import FixedSizes, FreeSizes, NamedSize, RatioSizes

OFFER = {
    "kind": "evolink",
    "operations": ["generation"],
    "upstream_model": "m",
    "sizes": ["1024x1024"],
    "prices": "p",
}
BOUNDS = {"max_edge": 2048, "max_pixels": 4_194_304, "max_aspect": 3}


def _offer(**changes: Any) -> OfferRow:
    return OfferRow.model_validate(OFFER | changes)


def test_a_list_of_sizes() -> None:
    """A list is what it says."""
    assert FixedSizes((Size(1024, 1024),)) == _offer().size_rule()


def test_names_of_sizes() -> None:
    """Ratios and tiers without bounds are all that is made."""
    rule = _offer(sizes={"ratios": ["16:9"], "tiers": {"1K": 1_048_576}}).size_rule()

    assert RatioSizes((NamedSize("16:9", "1K", Size(1360, 768)),)) == rule


def test_bounds_of_sizes() -> None:
    """Steps and least edges are 1 unless told, and names beyond the bounds are none."""
    rule = _offer(
        sizes=BOUNDS | {"ratios": ["1:1"], "tiers": {"2K": 4_194_304, "4K": 16_777_216}}
    ).size_rule()

    assert rule == FreeSizes(
        step=1,
        min_edge=1,
        max_edge=2048,
        min_pixels=1,
        max_pixels=4_194_304,
        max_aspect=3,
        named=(
            NamedSize("1:1", "2K", Size(2048, 2048)),
            NamedSize("1:1", "4K", Size(2048, 2048)),
        ),
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({"max_edge": 2048}, "max_edge, max_pixels and max_aspect together"),
        ({"ratios": ["1:1"]}, "ratios with tiers, bounds, or both"),
        ({"tiers": {"1K": 1}} | BOUNDS, "ratios with tiers, bounds, or both"),
        ({}, "ratios with tiers, bounds, or both"),
        ({"ratios": ["auto"], "tiers": {"1K": 1}}, "pattern"),
    ],
)
def test_sizes_that_say_too_little(rows: dict[str, Any], told: str) -> None:
    """Half a rule would be no rule."""
    with pytest.raises(ValidationError, match=told):
        SizeRows.model_validate(rows)


def test_what_an_offer_says_of_itself() -> None:
    """Everything has a default but what a picture is and costs."""
    plain, full = (
        _offer(),
        _offer(
            retires="2027-01-31",
            channel="unofficial",
            qualities=["low"],
            prompt={"chars": 9, "bytes": 8, "tokens": 7},
            formats=["jpeg"],
            wording={"size": "ratio", "tier_field": "quality", "format_field": "f"},
        ),
    )

    assert (None, Channel.OFFICIAL, (PictureFormat.PNG,)) == (
        *(plain.retires, plain.channel),
        plain.formats,
    )
    assert (Wording(has_quality=False), PromptLimits()) == (plain.told(), plain.prompt_limits())
    assert (date(2027, 1, 31), Channel.UNOFFICIAL) == (full.retires, full.channel)
    assert Wording(SizeWords.RATIO, "quality", has_quality=True, format_field="f") == full.told()
    assert PromptLimits(9, 8) == full.prompt_limits()


def test_what_openai_takes() -> None:
    """A model of nobody in particular takes no fidelity, and what its offers do."""
    row = ModelRow.model_validate({"default_size": "1024x1024", "offers": [OFFER]})

    assert OpenAiRules() == row.openai.rules()
