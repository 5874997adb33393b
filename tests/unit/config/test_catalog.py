from __future__ import annotations

import math
import random
import re
import tomllib
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.catalog import catalog_from, catalog_problems, packaged, routed
from gateway.config.catalog_rows import CatalogRows, LatencyRow, ModelRow, OfferRow, SizeRows
from gateway.config.price_rows import TableRows, TokenSheet
from gateway.config.settings import Settings
from gateway.domain.catalog import Model, PromptLimits
from gateway.domain.images import Operation, Picture, Size, TokenUsage
from gateway.domain.pricing import PictureBilling, TokenBilling, final, list_price, quote
from gateway.domain.sizes import FixedSizes, FreeSizes, RatioSizes, SizeRule
from gateway.simulator.models import MODELS as MODEL_ROWS
from gateway.simulator.pricing import REFERENCE_IMAGE_TOKENS, Usage, charge, text_tokens
from tests.support.factories import FREE_SIZES

#: OpenAI's limit (protocols/openai_images.md §2.1).
PROMPT_MAX_CHARS = 32_000
MODELS = ("gpt-image-1", "gpt-image-1.5", "gpt-image-2")


def _provider(**changes: Any) -> dict[str, Any]:
    return {"kind": "evolink", "api_key_env": "KEY"} | changes


SIZES = (Size(1024, 1024), Size(1024, 1536), Size(1536, 1024))
QUALITIES = ("low", "medium", "high")

#: The pixels behind EvoLink's ratios at 1K, 2K and 4K (protocols/evolink.md §2.3).
LANDSCAPES = (
    *((1024, 1024), (2048, 2048), (2880, 2880)),
    *((1456, 720), (2896, 1456), (3840, 1920)),
    *((1776, 592), (3552, 1184), (3840, 1280)),
    *((1248, 832), (2512, 1680), (3520, 2352)),
    *((1184, 880), (2368, 1776), (3312, 2480)),
    *((1152, 912), (2288, 1824), (3216, 2576)),
    *((1360, 768), (2736, 1536), (3840, 2160)),
    *((1568, 672), (3136, 1344), (3840, 1632)),
)
RATIO_SIZES = tuple(
    Size(*edges) for landscape in LANDSCAPES for edges in {landscape, landscape[::-1]}
)
SIZES_OF = {"gpt-image-1": SIZES, "gpt-image-1.5": SIZES, "gpt-image-2": RATIO_SIZES}

#: Typical seconds by quality: 1K low and medium, and high as it is at 2K (evolink.md §15).
TYPICAL_S = {"low": (5, 15), "medium": (10, 30), "high": (20, 60)}

#: What prompts are written in; signs without letters are what makes the most tokens of a byte.
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ,.-",
    "абвгдежзийклмнопрстуфхцчшщ ",
    "一丁七万三上下不与世丘丙丢两严並。、",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي ",
    "🦊🎨🌄🏔👩\u200d👩\u200d👧\u200d👦🇰🇷✨",
    "!?.,;:-+*/()[]{}",
    "".join(map(chr, range(1, 256))),
)


class Calls:
    """Random calls, the same at every run: prompts up to the limit, sizes within the bounds."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        #: Prompts are cut out of these; making each letter by letter would take minutes.
        self.texts = [
            "".join(self.chance.choices(alphabet, k=2 * PROMPT_MAX_CHARS)) for alphabet in ALPHABETS
        ]
        #: A few sizes of each rule; finding one within bounds takes many tries.
        self._sizes: dict[str, list[Size]] = {}

    def picture(self, model: Model) -> Picture:
        """Return a picture that this model makes."""
        offer = self.chance.choice(model.offers)
        least = 1 if offer.operation is Operation.EDIT else 0
        references = self.chance.randint(least, offer.max_references) if least else 0
        prompt = self._prompt(offer.prompt)
        size = self.chance.choice(self._sizes_of(model.name, offer.sizes))
        return _picture(self.chance.choice(offer.qualities), size, references, prompt=prompt)

    def _prompt(self, limits: PromptLimits) -> str:
        most = limits.chars or PROMPT_MAX_CHARS
        chars = min(self.chance.choice((1, 7, 80, 400, 2000, most)), most)
        start = self.chance.randrange(PROMPT_MAX_CHARS)
        prompt = self.chance.choice(self.texts)[start : start + chars]
        while not limits.allow(prompt):
            prompt = prompt[: len(prompt) // 2]
        return prompt

    def _sizes_of(self, name: str, rule: SizeRule) -> list[Size]:
        if not isinstance(rule, FreeSizes):
            return list(rule.sizes)
        if name not in self._sizes:
            self._sizes[name] = [self._free_size(rule) for _ in range(200)]
        return self._sizes[name]

    def _free_size(self, rule: FreeSizes) -> Size:
        most = min(rule.max_edge, 6000) // rule.step
        while True:
            size = Size(
                self.chance.randint(1, most) * rule.step, self.chance.randint(1, most) * rule.step
            )
            if rule.allows(size):
                return size


def _picture(
    quality: str, size: Size, references: int = 0, *, prompt: str = "a small red fox"
) -> Picture:
    operation = Operation.EDIT if references else Operation.GENERATION
    return Picture(operation, prompt, size, quality, references)


def _billing(model: Model) -> TokenBilling:
    billing = model.offers[0].book.billing
    assert isinstance(billing, TokenBilling)
    return billing


def _half_up(amount: Fraction, places: int) -> str:
    scaled = (2 * amount * 10**places + 1) // 2
    return f"{Decimal(int(scaled)).scaleb(-places):f}"


def _every_model() -> list[Model]:
    names = packaged().models
    settings = Settings.model_validate(
        {
            "providers": {"evolink": _provider()},
            "models": {name: {"routes": ["evolink"]} for name in names},
        }
    )
    return list(catalog_from(settings).models.values())


def _settings(routes: tuple[str, ...] = ("evolink",), **rates: int) -> Settings:
    return Settings.model_validate(
        {
            "providers": {
                name: _provider(credits_per_usd=rates.get(name, 68)) for name in set(routes)
            },
            "models": {name: {"routes": list(routes)} for name in MODELS},
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
    """Three sizes, three qualities, no limit on characters; it generates and edits."""
    offer, edits = model.offers

    assert (Operation.EDIT, 16) == (edits.operation, edits.max_references)

    assert offer.provider == "evolink"
    assert offer.upstream_model == "gpt-image-1.5"
    assert Operation.GENERATION is offer.operation
    assert FixedSizes((Size(1024, 1024), Size(1024, 1536), Size(1536, 1024))) == offer.sizes
    assert offer.qualities == ("low", "medium", "high")
    assert offer.prompt == PromptLimits()
    assert _billing(model).thinking_tokens == 256
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
    price = getattr(_billing(model).prices, category)

    assert Fraction(usd_per_1k) * 1_000_000 / 1000 == price
    assert Fraction(credits_per_1k) / 68 * 1_000_000 / 1000 == price


def test_the_price_of_the_smallest_picture_is_exact(model: Model) -> None:
    """272 tokens cost 7833.6 micro-dollars, not one digit more or less."""
    listed = list_price(model.offers[0].book, _picture("low", Size(1024, 1024)))

    assert Fraction(78336, 10) == listed


@pytest.mark.parametrize(
    ("quality", "tokens"),
    [("low", (272, 408, 400)), ("medium", (1056, 1584, 1568)), ("high", (4160, 6240, 6208))],
)
def test_the_table_of_output_tokens(model: Model, quality: str, tokens: tuple[int, ...]) -> None:
    """By quality, for the square, the tall and the wide picture."""
    billing = _billing(model)

    assert tokens == tuple(billing.output.tokens(_picture(quality, size)) for size in SIZES)


@pytest.mark.parametrize(
    ("name", "usd", "credit_ends"),
    [
        ("gpt-image-1.5", ("0.0078", "0.357"), ("0.53268", "24.25283")),
        ("gpt-image-1", ("0.0098", "0.446"), ("0.66586", "30.31603")),
        ("gpt-image-2", ("0.0017", "0.817"), ("0.11383", "55.58049")),
    ],
)
def test_list_prices_span_what_evolink_publishes(
    name: str, usd: tuple[str, str], credit_ends: tuple[str, str]
) -> None:
    """Over quality, size and 0 or 16 references both ends are the published ones (§12)."""
    model = catalog_from(_settings()).models[name]
    prices = [
        bid.listed
        for references in (0, 16)
        for quality in QUALITIES
        for size in SIZES_OF[name]
        for bid in model.bids(_picture(quality, size, references))
        if bid.listed is not None
    ]
    dollars = [price / 1_000_000 for price in (min(prices), max(prices))]

    assert 2 * len(QUALITIES) * len(SIZES_OF[name]) == len(prices)
    assert credit_ends == tuple(_half_up(price * 68, 5) for price in dollars)
    assert usd == (_half_up(dollars[0], 4), _half_up(dollars[1], 3))


def test_no_bill_of_the_simulator_is_above_its_quote() -> None:
    """Ten thousand random calls in many scripts: what was held always covers what is billed.

    The simulator bills by its own copy of the published formulas. No bill has a part that the
    gateway would reckon differently.
    """
    calls = Calls(seed=20_261_123)
    models = _every_model()
    uncovered = []
    for _ in range(10_000):
        model = calls.chance.choice(models)
        picture = calls.picture(model)
        bid = model.bids(picture)[0]
        simulated = MODEL_ROWS[model.name]
        edges = picture.size.width, picture.size.height
        usage, billed = None, Fraction(0)
        if simulated.per_picture is not None:
            billed = Fraction(simulated.per_picture.charge(1, *edges, picture.references))
        else:
            usage = TokenUsage(
                text_input=text_tokens(picture.prompt),
                image_input=REFERENCE_IMAGE_TOKENS * picture.references,
                image_output=simulated.output.tokens(
                    picture.quality if simulated.qualities else "", *edges
                ),
            )
            tokens = Usage(usage.image_output, usage.image_input, usage.text_input)
            billed = Fraction(charge(simulated.prices, tokens))
        booked = final(
            bid.offer.book, usage=usage, credits_used=billed, hold_microusd=0, picture=picture
        )
        covered = bid.quote is not None and bid.quote.total_microusd >= billed * 1_000_000 / 68
        if not covered or booked.drift_microusd != 0:
            uncovered.append((model.name, str(picture.size), picture.quality, len(picture.prompt)))

    assert [] == uncovered


def test_everything_that_is_listed_has_a_price() -> None:
    """No size and quality of any offer is without a quote, the model's defaults included."""
    for model in _every_model():
        for offer in model.offers:
            sizes = RATIO_SIZES[:3] if isinstance(offer.sizes, FreeSizes) else offer.sizes.sizes
            for size in (*sizes, model.default_size):
                for quality in offer.qualities:
                    assert quote(offer.book, Picture(offer.operation, "a cat", size, quality))
            assert offer.sizes.allows(model.default_size)
            assert model.default_quality in offer.qualities


def test_models_have_successors_that_there_are() -> None:
    """Whoever is sent on arrives."""
    successors = {row.successor for row in packaged().models.values()} - {""}

    assert successors <= set(packaged().models)


def test_the_simulator_makes_of_ratios_what_is_priced_here() -> None:
    """Where an upstream is told a ratio and a tier, both mean the same pixels by it."""
    told = [
        (model.name, offer.wording.tier_field, each)
        for model in _every_model()
        for offer in model.offers
        if isinstance(offer.sizes, RatioSizes)
        for each in offer.sizes.named
    ]

    assert [] == [
        (name, each)
        for name, tier_field, each in told
        if MODEL_ROWS[name].sizes.pixels(each.ratio, each.tier if tier_field else "")
        != (each.size.width, each.size.height)
    ]
    assert len(told) > 100


def test_every_price_says_whence() -> None:
    """Prices and token tables carry source and date."""
    blocks = [
        *((block.source, block.date) for block in packaged().prices.values()),
        *((block.source, block.date) for block in packaged().output_tokens.values()),
    ]

    assert all(source and date.startswith("2026") for source, date in blocks)
    for sheet in packaged().prices.values():
        is_assumed = getattr(sheet, "assumed", ()) is True
        assert is_assumed is not sheet.source.startswith("protocols/evolink.md §12")


def test_what_no_source_confirms_is_marked() -> None:
    """Only the two ends of the token table are confirmed by EvoLink's own numbers."""
    table = packaged().output_tokens["gpt-image-1"]
    sheet = packaged().prices["evolink/gpt-image-1.5"]

    assert isinstance(table, TableRows)
    assert [entry.tokens for entry in table.rows if not entry.assumed] == [272, 6240]
    assert packaged().models["gpt-image-1.5"].created.assumed
    assert isinstance(sheet, TokenSheet)
    assert sheet.thinking.assumed


@pytest.mark.parametrize(
    ("name", "categories"),
    [
        ("evolink/gpt-image-1", set()),
        ("evolink/gpt-image-1.5", set()),
        (
            "evolink/gpt-image-2",
            {"text_input", "text_cached_input", "image_cached_input", "text_output"},
        ),
    ],
)
def test_prices_that_no_page_names_are_marked(name: str, categories: set[str]) -> None:
    """EvoLink publishes only two of the six prices of gpt-image-2 (protocols/evolink.md §18)."""
    sheet = packaged().prices[name]

    assert isinstance(sheet, TokenSheet)
    assert categories == set(sheet.assumed)


@pytest.mark.parametrize(
    ("name", "per_million_usd"),
    [
        ("gpt-image-1", ("4.5", "1.125", "9", "2.25", "36", "0")),
        ("gpt-image-1.5", ("4.5", "1.125", "7.2", "1.8", "28.8", "9")),
        ("gpt-image-2", ("4.5", "1.125", "7.2", "1.8", "27", "0")),
    ],
)
def test_six_categories_of_every_model(name: str, per_million_usd: tuple[str, ...]) -> None:
    """A million tokens cost so many dollars; the order is that of the usage."""
    billing = _billing(catalog_from(_settings()).models[name])
    prices = billing.prices.by_category(TokenUsage(1, 1, 1, 1, 1, 1))

    assert tuple(map(Fraction, per_million_usd)) == tuple(prices.values())
    assert 1536 == billing.reference_tokens


def test_gpt_image_2_makes_free_sizes() -> None:
    """Any size within EvoLink's bounds, at three qualities, with prompts of 32,000 characters."""
    model = catalog_from(_settings()).models["gpt-image-2"]

    assert (Size(1024, 1024), "medium") == (model.default_size, model.default_quality)
    assert {
        (Operation.GENERATION, FREE_SIZES, QUALITIES, PromptLimits(32_000, 60_000), 16),
        (Operation.EDIT, FREE_SIZES, QUALITIES, PromptLimits(32_000, 60_000), 16),
    } == {
        (
            *(offer.operation, offer.sizes, offer.qualities),
            *(offer.prompt, offer.max_references),
        )
        for offer in model.offers
    }


@pytest.mark.parametrize(
    ("edge", "usd"), [(1024, "0.015"), (2048, "0.0255"), (2880, "0.039"), (100_000, "0.039")]
)
def test_prices_for_the_call(edge: int, usd: str) -> None:
    """A call costs what its tier does, at any quality (protocols/evolink.md §12)."""
    book = packaged().book("evolink/gpt-image-2-beta", Fraction(68))

    assert Fraction(usd) * 1_000_000 == list_price(book, _picture("any", Size(edge, edge)))


@pytest.mark.parametrize(
    ("quality", "square", "oblong"),
    [("low", "0.509", "0.749"), ("medium", "1.958", "2.879"), ("high", "7.657", "11.256")],
)
def test_prices_for_the_picture_in_credits(quality: str, square: str, oblong: str) -> None:
    """A list in credits follows the account's rate of exchange."""
    book = packaged().book("evolink/gpt-image-1.5 by picture", Fraction(72))

    assert [Fraction(price) * 1_000_000 / 72 for price in (square, oblong, oblong)] == [
        list_price(book, _picture(quality, size)) for size in SIZES
    ]


def test_prices_of_references_in_credits() -> None:
    """What a list asks for each reference follows the rate of exchange, too."""
    sheet = packaged().prices["evolink/gpt-image-1.5 by picture"]
    billing = sheet.model_copy(update={"reference": Fraction(36)}).billing({}, Fraction(72))

    assert isinstance(billing, PictureBilling)
    assert 500_000 == billing.reference


@pytest.mark.parametrize(
    ("written", "hold_microusd"), [({}, None), ({"unpriced_hold_usd": "0.5"}, 500_000)]
)
def test_the_amount_for_pictures_without_a_price(
    written: dict[str, str], hold_microusd: int | None
) -> None:
    """The settings of a model may name an amount to hold; without it such pictures are refused."""
    settings = Settings.model_validate(
        {
            "providers": {"evolink": _provider()},
            "models": {"gpt-image-2": {"routes": ["evolink"], **written}},
        }
    )

    assert hold_microusd == catalog_from(settings).models["gpt-image-2"].unpriced_hold_microusd


def test_offers_follow_the_routes_and_their_rates() -> None:
    """Each routed provider makes an offer under its own name, at its own rate of exchange."""
    offers = catalog_from(_settings(("new", "old"), old=72)).models["gpt-image-1.5"].offers

    assert [("new", Fraction(68)), ("old", Fraction(72))] == [
        (offer.provider, offer.book.credits_per_usd)
        for offer in offers
        if offer.operation is Operation.GENERATION
    ]


def test_offers_of_another_kind_are_left_out() -> None:
    """A provider makes only the offers of its kind."""
    text = files("gateway.config").joinpath("catalog.toml").read_text(encoding="utf-8")
    other = text.replace('kind = "evolink"', 'kind = "another"')
    rows = CatalogRows.model_validate(tomllib.loads(other, parse_float=Decimal))

    assert routed(_settings(), rows).models["gpt-image-1.5"].offers == ()


def test_a_model_without_routes_is_not_offered() -> None:
    """The settings choose; the catalogue only knows."""
    assert catalog_from(Settings.model_validate({})).models == {}


def test_what_offers_know_is_listed_once() -> None:
    """Sizes and qualities of all offers, for checking what a team defaults to."""
    assert packaged().sizes() == ["1024x1024", "1024x1536", "1536x1024"]
    assert packaged().qualities() == ["low", "medium", "high", "xhigh", "max"]


@pytest.mark.parametrize("name", MODELS)
def test_how_long_pictures_take(name: str) -> None:
    """Every quality has a belief; what EvoLink's own client names is nine tenths of it."""
    for offer in catalog_from(_settings()).models[name].offers:
        assert set(offer.qualities) == set(offer.latency)
        for quality, (least_s, most_s) in TYPICAL_S.items():
            within = offer.latency[quality].below(most_s) - offer.latency[quality].below(least_s)
            assert within == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("field", ["median_s", "sigma"])
@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_a_belief_must_be_a_time(field: str, value: float) -> None:
    """Nothing takes no time, or for ever."""
    with pytest.raises(ValidationError, match=field):
        LatencyRow.model_validate(
            {"quality": "low", "median_s": 8.7, "sigma": 0.3} | {field: value}
        )


def _own(**changes: Any) -> Settings:
    """Return settings with a model of their own."""
    offer = {
        "kind": "evolink",
        "operations": ["generation"],
        "upstream_model": "theirs",
        "sizes": ["512x512"],
        "prices": "ours",
    }
    model = {"routes": ["evolink"], "default_size": "512x512", "offers": [offer]}
    price = {"form": "call", "tiers": [{"price": "0.01"}]}
    sheet = price | {"source": "a contract", "date": "2026", "note": "none"}
    document = {
        "providers": {"evolink": _provider()},
        "models": {"house": model | changes.pop("model", {})},
        "prices": {"ours": sheet},
    }
    return Settings.model_validate(document | changes)


def test_a_model_of_the_settings() -> None:
    """A table with offers and prices is a model like any other."""
    settings = _own()
    model = catalog_from(settings).models["house"]
    [bid] = model.bids(_picture("standard", Size(512, 512)))

    assert [] == catalog_problems(settings, packaged())
    assert ("system", 0, "standard") == (model.owned_by, model.created_s, model.default_quality)
    assert 10_000 == bid.listed


def test_what_the_settings_say_of_a_known_model() -> None:
    """It stands in place of what the catalogue says; the rest stays."""
    known = {"routes": ["evolink"], "default_quality": "low", "aliases": ["dall-e-3"]}
    settings = _own(models={"gpt-image-1.5": known})
    catalog = catalog_from(settings)
    model = catalog.models["gpt-image-1.5"]

    assert [] == catalog_problems(settings, packaged())
    assert ("low", "gpt-image-2", 2) == (
        *(model.default_quality, model.successor),
        len(model.offers),
    )
    assert {"dall-e-3": "gpt-image-1.5"} == catalog.aliases


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        (
            _own(model={"default_size": "1024x1024"}),
            ["models.house.default_size: expected a size that an offer makes"],
        ),
        (
            _own(model={"default_quality": "low"}),
            ["models.house.default_quality: expected a quality that an offer makes"],
        ),
        (
            _own(prices={}),
            ["models.house.offers[0].prices: no such prices; known here: "],
        ),
        (
            _own(model={"aliases": ["house", "a", "a"]}),
            [
                "models.house.aliases[0]: this is the name of a model already",
                "models.house.aliases[2]: this is an alias of house already",
            ],
        ),
    ],
)
def test_models_that_do_not_fit_together(settings: Settings, problems: list[str]) -> None:
    """All of it is told, with its place."""
    found = [str(problem) for problem in catalog_problems(settings, packaged())]

    assert len(problems) == len(found)
    for told, expected in zip(found, problems, strict=True):
        assert told.startswith(expected)


def test_the_page_about_models() -> None:
    """Every model is on it, and its example is a model that can be offered."""
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    *_, example = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    document = tomllib.loads(example, parse_float=Decimal)
    settings = Settings.model_validate({"providers": {"evolink": _provider()}} | document)
    # Sisters are listed by the end of their names.
    names = {name.removeprefix("doubao-seedream") for name in packaged().models} - {"-4.0"}

    assert [] == catalog_problems(settings, packaged())
    assert names <= set(re.findall(r"`([^`\n]+)`", page))
    fields = {*ModelRow.model_fields, *OfferRow.model_fields, *SizeRows.model_fields}
    assert fields <= set(re.findall(r"[a-z_]+", page))
