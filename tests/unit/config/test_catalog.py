from __future__ import annotations

import tomllib
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.catalog import Packaged, Thinking, catalog_from, packaged, routed
from gateway.config.settings import Settings
from gateway.domain.catalog import Model
from gateway.domain.images import Operation, Picture, Size
from gateway.domain.pricing import quote


def _provider(**changes: Any) -> dict[str, Any]:
    return {"kind": "evolink", "api_key_env": "KEY"} | changes


def _settings(routes: tuple[str, ...] = ("evolink",), **rates: int) -> Settings:
    return Settings.model_validate(
        {
            "providers": {
                name: _provider(credits_per_usd=rates.get(name, 68)) for name in set(routes)
            },
            "models": {"gpt-image-1.5": {"routes": list(routes)}},
        }
    )


@pytest.fixture
def model() -> Model:
    """Return the one model of this release, made by one provider."""
    return catalog_from(_settings()).models["gpt-image-1.5"]


def test_a_model_is_shown_as_the_data_says(model: Model) -> None:
    """What /v1/models answers stands in the catalogue."""
    assert model.name == "gpt-image-1.5"
    assert model.created_s == 1_765_843_200
    assert model.owned_by == "system"
    assert model.shutdown_date is None
    assert Size(1024, 1024) == model.default_size
    assert model.default_quality == "medium"


def test_the_offer_of_evolink(model: Model) -> None:
    """Three sizes, three qualities, no limit on characters."""
    [offer] = model.offers

    assert offer.provider == "evolink"
    assert offer.upstream_model == "gpt-image-1.5"
    assert Operation.GENERATION is offer.operation
    assert [str(size) for size in offer.sizes] == ["1024x1024", "1024x1536", "1536x1024"]
    assert offer.qualities == ("low", "medium", "high")
    assert offer.prompt_max_chars is None
    assert offer.book.thinking_tokens == 256
    assert Fraction(68) == offer.book.credits_per_usd


@pytest.mark.parametrize(
    ("category", "usd_per_1k", "credits_per_1k"),
    [
        ("image_output", "0.0288", "1.9584"),
        ("image_input", "0.0072", "0.4896"),
        ("image_cached_input", "0.0018", "0.1224"),
        ("text_input", "0.0045", "0.306"),
        ("text_cached_input", "0.001125", "0.0765"),
        ("text_output", "0.009", "0.612"),
    ],
)
def test_prices_are_those_of_the_product_page(
    model: Model, category: str, usd_per_1k: str, credits_per_1k: str
) -> None:
    """Dollars and credits of protocols/evolink.md §12 agree at 68 credits for a dollar."""
    price = getattr(model.offers[0].book.prices, category)

    assert Fraction(usd_per_1k) * 1_000_000 / 1000 == price
    assert Fraction(credits_per_1k) / 68 * 1_000_000 / 1000 == price


def test_the_price_of_the_smallest_picture_is_exact(model: Model) -> None:
    """272 tokens cost 7833.6 micro-dollars, not one digit more or less."""
    book = model.offers[0].book
    tokens = book.output_tokens["low", "1024x1024"]

    assert Fraction(78336, 10) == tokens * book.prices.image_output


@pytest.mark.parametrize(
    ("quality", "tokens"),
    [("low", (272, 408, 400)), ("medium", (1056, 1584, 1568)), ("high", (4160, 6240, 6208))],
)
def test_the_table_of_output_tokens(model: Model, quality: str, tokens: tuple[int, ...]) -> None:
    """By quality, for the square, the tall and the wide picture."""
    offer = model.offers[0]

    assert tokens == tuple(offer.book.output_tokens[quality, str(size)] for size in offer.sizes)


def test_everything_that_is_offered_has_a_price() -> None:
    """No size and quality of any offer is without a quote, the model's defaults included."""
    for row in catalog_from(_settings()).models.values():
        for offer in row.offers:
            for size in offer.sizes:
                for quality in offer.qualities:
                    assert quote(offer.book, Picture(offer.operation, "a cat", size, quality))
            assert row.default_size in offer.sizes
            assert row.default_quality in offer.qualities


def test_every_price_says_whence() -> None:
    """Prices and token tables carry source and date."""
    blocks = [
        *((block.source, block.date) for block in packaged().prices.values()),
        *((block.source, block.date) for block in packaged().output_tokens.values()),
    ]

    assert all(source.startswith("protocols/evolink.md §12") for source, _ in blocks)
    assert {"2026"} == {date for _, date in blocks}


def test_what_no_source_confirms_is_marked() -> None:
    """Only the two ends of the token table are confirmed by EvoLink's own numbers."""
    table = packaged().output_tokens["gpt-image-1.5"]
    row = packaged().models["gpt-image-1.5"]

    assert [entry.tokens for entry in table.rows if not entry.assumed] == [272, 6240]
    assert row.created.assumed
    assert row.offers[0].thinking.assumed


def test_an_assumption_needs_a_note() -> None:
    """Whoever assumes something says why."""
    with pytest.raises(ValidationError, match="an assumption needs a note"):
        Thinking.model_validate({"tokens": 256, "assumed": True})


def test_offers_follow_the_routes_and_their_rates() -> None:
    """Each routed provider makes an offer under its own name, at its own rate of exchange."""
    offers = catalog_from(_settings(("new", "old"), old=72)).models["gpt-image-1.5"].offers

    assert [("new", Fraction(68)), ("old", Fraction(72))] == [
        (offer.provider, offer.book.credits_per_usd) for offer in offers
    ]


def test_offers_of_another_kind_are_left_out() -> None:
    """A provider makes only the offers of its kind."""
    text = files("gateway.config").joinpath("catalog.toml").read_text(encoding="utf-8")
    other = text.replace('kind = "evolink"', 'kind = "another"')
    rows = Packaged.model_validate(tomllib.loads(other, parse_float=Decimal))

    assert routed(_settings(), rows).models["gpt-image-1.5"].offers == ()


def test_a_model_without_routes_is_not_offered() -> None:
    """The settings choose; the catalogue only knows."""
    assert catalog_from(Settings.model_validate({})).models == {}


def test_what_offers_know_is_listed_once() -> None:
    """Sizes and qualities of all offers, for checking what a team defaults to."""
    assert packaged().sizes() == ["1024x1024", "1024x1536", "1536x1024"]
    assert packaged().qualities() == ["low", "medium", "high"]
