"""The GPT image models, one row each: what they accept and what they cost (evolink.md §2, §12)."""

from dataclasses import replace
from decimal import Decimal

from gateway.simulator.model import Model
from gateway.simulator.pricing import (
    FREE,
    AreaFormula,
    NoTokens,
    PicturePrices,
    Prices,
    TokenTable,
)
from gateway.simulator.sizes import Bounds, FixedSizes, FreeSizes

_LOW_TO_HIGH = ("low", "medium", "high")
_TIERS = ("1K", "2K", "4K")
_SIX_SIZES = FixedSizes(
    {
        "1:1": (1024, 1024),
        "2:3": (1024, 1536),
        "3:2": (1536, 1024),
        "1024x1024": (1024, 1024),
        "1024x1536": (1024, 1536),
        "1536x1024": (1536, 1024),
    }
)
_FAMILY_1_TOKENS = TokenTable(
    {"low": (272, 408, 400), "medium": (1056, 1584, 1568), "high": (4160, 6240, 6208)}
)
# What `auto` costs is not known; the dearest is the careful answer.
_FAMILY_1_AUTO_TOKENS = TokenTable(_FAMILY_1_TOKENS.rows | {"auto": (4160, 6240, 6208)})
_PIXELS_2 = Bounds(area=(655_360, 8_294_400), aspect=3, edge=(16, 3840), step=16)
_SIZES_2 = FreeSizes(
    # The documents leave the choice of `auto` to the model; a square is the family's usual answer.
    auto=(1024, 1024),
    resolutions=_TIERS,
    landscape={
        "1:1": ((1024, 1024), (2048, 2048), (2880, 2880)),
        "2:1": ((1456, 720), (2896, 1456), (3840, 1920)),
        "3:1": ((1776, 592), (3552, 1184), (3840, 1280)),
        "3:2": ((1248, 832), (2512, 1680), (3520, 2352)),
        "4:3": ((1184, 880), (2368, 1776), (3312, 2480)),
        "5:4": ((1152, 912), (2288, 1824), (3216, 2576)),
        "16:9": ((1360, 768), (2736, 1536), (3840, 2160)),
        "21:9": ((1568, 672), (3136, 1344), (3840, 1632)),
    },
    explicit=_PIXELS_2,
)

_GPT_15 = Model(
    name="gpt-image-1.5",
    prices=Prices(
        image_output=Decimal("1.9584"),
        image_input=Decimal("0.4896"),
        image_cached_input=Decimal("0.1224"),
        text_input=Decimal("0.306"),
        text_cached_input=Decimal("0.0765"),
    ),
    output=_FAMILY_1_TOKENS,
    sizes=_SIX_SIZES,
    default_size="1:1",
    qualities=_LOW_TO_HIGH,
    default_quality="high",
    # The documents say 1, the product page 1-10 (§14 row 9); the stricter one finds mistakes.
    counts=(1,),
    max_prompt_tokens=2000,
)
_GPT_1 = replace(
    _GPT_15,
    name="gpt-image-1",
    prices=Prices(
        image_output=Decimal("2.448"),
        image_input=Decimal("0.612"),
        image_cached_input=Decimal("0.153"),
        text_input=Decimal("0.306"),
        text_cached_input=Decimal("0.0765"),
    ),
    counts=range(1, 11),
)
# Not priced in any document; taken to cost what the full model does. Sold under two names (§14).
_GPT_15_LITE = replace(
    _GPT_15,
    name="gpt-image-1.5-lite",
    output=_FAMILY_1_AUTO_TOKENS,
    qualities=(*_LOW_TO_HIGH, "auto"),
    default_quality="auto",
)
_GPT_4O = replace(
    _GPT_15,
    name="gpt-4o-image",
    # No price is recorded; those of gpt-image-1, the same model at OpenAI.
    prices=_GPT_1.prices,
    max_prompt_tokens=None,
    max_prompt_characters=1000,
    counts=(1, 2, 4),
)
_GPT_2 = Model(
    name="gpt-image-2",
    prices=Prices(
        image_output=Decimal("1.836"),
        image_input=Decimal("0.4896"),
        # Not published (§18.13). Each known price is nine tenths of OpenAI's, and so are these.
        image_cached_input=Decimal("0.1224"),
        text_input=Decimal("0.306"),
        text_cached_input=Decimal("0.0765"),
    ),
    output=AreaFormula({"low": 16, "medium": 48, "high": 96}),
    sizes=_SIZES_2,
    default_size="auto",
    qualities=_LOW_TO_HIGH,
    default_quality="medium",
    counts=range(1, 11),
    max_prompt_characters=32_000,
    max_prompt_bytes=60_000,
    mask=True,
    resolutions=_TIERS,
    formats=("png", "jpeg", "webp"),
    backgrounds=("opaque", "transparent"),
)
_GPT_2_BETA = Model(
    name="gpt-image-2-beta",
    prices=FREE,
    output=NoTokens(),
    per_picture=PicturePrices(
        (
            (1_700_000, Decimal("1.02")),
            (4_400_000, Decimal("1.734")),
            (None, Decimal("2.652")),
        )
    ),
    # Ratios at 1K only, the newer of two documents (§14 row 15).
    sizes=replace(_SIZES_2, explicit=None),
    default_size="auto",
    qualities=(),
    default_quality="",
    counts=(1,),
    max_prompt_tokens=2000,
    resolutions=("1K",),
)
# The tokens are documented, the prices are not: those of gpt-image-2.
_GPT_25_FLARE = replace(
    _GPT_2,
    name="gpt-image-2.5-flare",
    output=AreaFormula({"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}),
    qualities=(*_LOW_TO_HIGH, "xhigh", "max"),
)

GPT_MODELS = (
    _GPT_15,
    _GPT_1,
    _GPT_15_LITE,
    replace(_GPT_15_LITE, name="gpt-image-1.5-beta"),
    _GPT_4O,
    _GPT_2,
    _GPT_2_BETA,
    _GPT_25_FLARE,
    replace(_GPT_25_FLARE, name="gpt-image-2.5-sunburst"),
)
OTHER_GPT_MODELS = (
    # §14 rows 9 and 10.
    replace(
        _GPT_15,
        output=_FAMILY_1_AUTO_TOKENS,
        qualities=(*_LOW_TO_HIGH, "auto"),
        default_quality="auto",
        counts=range(1, 11),
    ),
    # Rows 11 and 12.
    replace(_GPT_2, formats=("png",), backgrounds=("opaque",), max_prompt_bytes=None),
    # Row 15.
    replace(_GPT_2_BETA, sizes=_SIZES_2, resolutions=_TIERS),
)
"""The other rules for some of them, where two documents differ (§14)."""
