"""The models of other makers, one row each (protocols/evolink.md §2.7, §12)."""

from dataclasses import replace
from decimal import Decimal

from gateway.simulator.model import MEGABYTE, Model, ReferenceRule
from gateway.simulator.params import Choice, Flag, Number, ParamRule, Text, Tools
from gateway.simulator.pricing import FREE, NoTokens, PicturePrices, TokenTable
from gateway.simulator.sizes import Bounds, FreeSizes, NoSizes, free_sizes

_TIERS = ("1K", "2K", "4K")
_EDGES = {"0.5K": 512, "1K": 1024, "1.5K": 1536, "2K": 2048, "3K": 3072, "4K": 4096}


def _each(credits_: str) -> PicturePrices:
    """Return a price for any picture; where no document names one, the maker's list or a guess."""
    return PicturePrices(((None, Decimal(credits_)),))


_WIDE_RATIOS = ("auto", "1:1", "3:2", "4:3", "5:4", "16:9", "21:9")
_WIDEST_RATIOS = (*_WIDE_RATIOS, "4:1", "8:1")


def _tiers(*names: str) -> dict[str, int]:
    return {name: _EDGES[name] for name in names}


_NANO_2 = Model(
    name="gemini-3.1-flash-image-preview",
    prices=FREE,
    output=NoTokens(),
    # $0.086 to $0.094, $0.129 to $0.141 at 4K, $0.0005 for a reference (§12).
    per_picture=PicturePrices(
        ((4_400_000, Decimal("6.392")), (None, Decimal("9.588"))), reference=Decimal("0.034")
    ),
    sizes=free_sizes(_WIDEST_RATIOS, _tiers("0.5K", "1K", "2K", "4K")),
    default_size="auto",
    qualities=(),
    default_quality="",
    counts=None,
    references=ReferenceRule(most=14, max_bytes=20 * MEGABYTE),
    resolutions=("2K", "0.5K", "1K", "4K"),
    resolution_field="quality",
    params={
        "model_params.web_search": Flag(),
        "model_params.image_search": Flag(),
        "model_params.thinking_level": Choice(("auto", "min", "high")),
    },
    missing_prompt_status=500,
    estimated_time_s=45,
)
_NANO_PRO = replace(
    _NANO_2,
    name="gemini-3-pro-image-preview",
    per_picture=PicturePrices(
        ((4_400_000, Decimal("9.112")), (None, Decimal("16.32"))), reference=Decimal("0.0748")
    ),
    sizes=free_sizes(_WIDE_RATIOS, _tiers(*_TIERS)),
    resolutions=("2K", "1K", "4K"),
    params={"model_params.web_search": Flag()},
)
_NANO_LITE = replace(
    _NANO_2,
    name="gemini-3.1-flash-lite-image",
    # The one recorded bill: 57 text and 1120 image tokens are 1.783 credits (§12). These prices,
    # 78 % of Google's, give it.
    prices=replace(
        FREE,
        image_output=Decimal("1.5912"),
        text_input=Decimal("0.01326"),
        image_input=Decimal("0.01326"),
    ),
    output=TokenTable({"": (1120, 1120, 1120)}),
    per_picture=None,
    sizes=free_sizes(_WIDEST_RATIOS, _tiers("1K")),
    resolutions=("1K",),
    formats=("jpeg",),
    params={"model_params.thinking_level": Choice(("auto", "min", "high"))},
)
_NANO_BETA = replace(
    _NANO_2,
    name="nano-banana-beta",
    per_picture=_each("2.652"),
    sizes=free_sizes(("auto", "1:1", "3:2", "4:3", "16:9"), _tiers("1K")),
    references=ReferenceRule(most=5, max_bytes=10 * MEGABYTE),
    resolutions=(),
    params={},
)
_NANO_2_BETA = replace(
    _NANO_2,
    name="nano-banana-2-beta",
    sizes=free_sizes(_WIDEST_RATIOS, _tiers(*_TIERS)),
    references=ReferenceRule(most=14, max_bytes=10 * MEGABYTE),
    resolutions=("2K", "1K", "4K"),
)
_NANO_PRO_BETA = replace(
    _NANO_PRO,
    name="nano-banana-pro-beta",
    references=ReferenceRule(most=10, max_bytes=10 * MEGABYTE),
)

_MORE_FORMATS = ("jpeg", "png", "webp", "bmp", "tiff", "gif")
_SEED_4 = Model(
    name="doubao-seedream-4.0",
    prices=FREE,
    output=NoTokens(),
    per_picture=_each("2.04"),
    sizes=free_sizes(
        _WIDE_RATIOS,
        _tiers(*_TIERS),
        explicit=Bounds(area=(921_600, 16_777_216), aspect=16),
    ),
    default_size="auto",
    qualities=(),
    default_quality="",
    counts=range(1, 16),
    references=ReferenceRule(most=14, max_bytes=10 * MEGABYTE, formats=_MORE_FORMATS),
    together_most=15,
    resolutions=("2K", "1K", "4K"),
    resolution_field="quality",
    formats=("jpeg",),
    params={"prompt_priority": Choice(("standard", "fast"))},
    estimated_time_s=45,
)
_SEED_45 = replace(
    _SEED_4,
    name="doubao-seedream-4.5",
    per_picture=_each("2.72"),
    sizes=free_sizes(
        _WIDE_RATIOS,
        _tiers("2K", "4K"),
        explicit=Bounds(area=(3_686_400, 16_777_216), aspect=16),
    ),
    resolutions=("2K", "4K"),
    params={"prompt_priority": Choice(("standard",))},
)
_SEED_5_LITE = replace(
    _SEED_45,
    name="doubao-seedream-5.0-lite",
    per_picture=_each("2.38"),
    sizes=free_sizes(
        _WIDE_RATIOS,
        _tiers("2K", "3K", "4K"),
        explicit=Bounds(area=(3_686_400, 16_777_216), aspect=16),
    ),
    resolutions=("2K", "3K", "4K"),
    formats=("jpeg", "png"),
    format_field="model_params.output_format",
    params={"model_params.tools": Tools("web_search")},
)
_SEED_5_PRO = replace(
    _SEED_4,
    name="doubao-seedream-5.0-pro",
    per_picture=_each("5.44"),
    sizes=free_sizes(
        _WIDE_RATIOS,
        _tiers("1K", "1.5K", "2K"),
        explicit=Bounds(area=(921_600, 4_624_220), aspect=16),
    ),
    counts=None,
    max_prompt_tokens=4000,
    references=ReferenceRule(
        most=10, max_bytes=30 * MEGABYTE, formats=(*_MORE_FORMATS, "heic", "heif")
    ),
    resolutions=("1K", "1.5K", "2K"),
    formats=("jpeg", "png"),
    backgrounds=("opaque", "transparent"),
    params={"watermark": Flag(), "prompt_priority": Choice(("standard", "fast"))},
)

_SEED_MOST = 2_147_483_647
_QWEN_PARAMS: dict[str, ParamRule] = {
    "negative_prompt": Text(500),
    "prompt_extend": Flag(),
    "watermark": Flag(),
    "seed": Number(0, _SEED_MOST),
}
_Z_IMAGE = Model(
    name="z-image-turbo",
    prices=FREE,
    output=NoTokens(),
    # About $0.0036 a picture (§12).
    per_picture=PicturePrices(((None, Decimal("0.2448")),)),
    sizes=free_sizes(
        ("1:1", "3:2", "4:3", "16:9", "2:1"),
        _tiers("1K"),
        explicit=Bounds(area=(1, 1536 * 1536), aspect=5, edge=(376, 1536)),
    ),
    default_size="1:1",
    qualities=(),
    default_quality="",
    counts=None,
    max_prompt_characters=2000,
    references=None,
    params={"seed": Number(1, _SEED_MOST), "nsfw_check": Flag()},
    estimated_time_s=45,
)
_QWEN_EDIT = replace(
    _Z_IMAGE,
    name="qwen-image-edit",
    per_picture=_each("3.06"),
    sizes=NoSizes(),
    max_prompt_characters=None,
    references=ReferenceRule(most=3, max_bytes=10 * MEGABYTE, required=True, edge=(384, 3072)),
    params={},
)
_QWEN_EDIT_PLUS = replace(
    _QWEN_EDIT,
    name="qwen-image-edit-plus",
    per_picture=_each("2.04"),
    sizes=FreeSizes(
        auto=(1024, 1024),
        resolutions=(),
        landscape={},
        explicit=Bounds(area=(1, 2048 * 2048), aspect=4, edge=(512, 2048)),
    ),
    # Not a documented value: what a request without `size` gets.
    default_size="auto",
    counts=range(1, 7),
    size_for_one_only=True,
    params=_QWEN_PARAMS,
)
_QWEN_3 = replace(
    _QWEN_EDIT,
    name="qwen-image-3.0-pro",
    per_picture=_each("5.1"),
    sizes=free_sizes(
        _WIDE_RATIOS,
        _tiers("1K", "2K"),
        explicit=Bounds(area=(512 * 512, 2048 * 2048), aspect=4),
    ),
    default_size="auto",
    counts=range(1, 7),
    references=ReferenceRule(most=3, max_bytes=10 * MEGABYTE),
    resolutions=("1K", "2K"),
    resolution_field="quality",
    params=_QWEN_PARAMS,
)
_WAN_TEXT = replace(
    _Z_IMAGE,
    name="wan2.5-text-to-image",
    per_picture=_each("3.4"),
    sizes=FreeSizes(
        resolutions=(),
        landscape={},
        explicit=Bounds(area=(768 * 768, 1440 * 1440), aspect=4),
    ),
    default_size="1280x1280",
    counts=range(1, 5),
    max_prompt_characters=2000,
    params={"prompt_extend": Flag()},
)
_WAN_IMAGE = replace(
    _WAN_TEXT,
    name="wan2.5-image-to-image",
    sizes=NoSizes(),
    references=ReferenceRule(most=2, max_bytes=10 * MEGABYTE, required=True, edge=(384, 5000)),
    params={},
)
_GROK = replace(
    _Z_IMAGE,
    name="grok-imagine-image-2.0",
    per_picture=_each("4.76"),
    sizes=free_sizes(
        ("auto", "1:1", "3:2", "4:3", "16:9", "2:1", "5:4", "21:9"), _tiers("1K", "2K")
    ),
    default_size="auto",
    qualities=("low", "medium"),
    default_quality="medium",
    counts=range(1, 11),
    max_prompt_characters=None,
    references=ReferenceRule(most=3),
    resolutions=("1K", "2K"),
    params={},
)

MORE_MODELS = (
    _NANO_2,
    _NANO_PRO,
    _NANO_LITE,
    _NANO_BETA,
    _NANO_2_BETA,
    replace(_NANO_LITE, name="nano-banana-2-lite-beta"),
    _NANO_PRO_BETA,
    _SEED_4,
    _SEED_45,
    _SEED_5_LITE,
    _SEED_5_PRO,
    _Z_IMAGE,
    _QWEN_EDIT,
    _QWEN_EDIT_PLUS,
    _QWEN_3,
    _WAN_TEXT,
    _WAN_IMAGE,
    _GROK,
)
OTHER_MORE_MODELS = (
    # §14 row 17.
    replace(
        _SEED_5_PRO,
        sizes=free_sizes(
            _WIDE_RATIOS,
            _tiers("1K", "2K"),
            explicit=Bounds(area=(1_048_576, 4_194_304), aspect=16),
        ),
        counts=(1,),
        max_prompt_tokens=2000,
        resolutions=("1K", "2K"),
        format_field="model_params.output_format",
    ),
    # Row 18.
    replace(_NANO_PRO, references=ReferenceRule(most=10, max_bytes=10 * MEGABYTE)),
)
"""The other rules for some of them, where two documents differ (§14)."""
