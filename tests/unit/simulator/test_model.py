from gateway.simulator.model import MEGABYTE, Model, ReferenceRule
from gateway.simulator.pricing import FREE, NoTokens
from gateway.simulator.sizes import NoSizes


def test_documented_limits_of_references() -> None:
    """Unless a row says otherwise, references are limited as for the GPT family (§2.1, §2.3)."""
    rule = ReferenceRule()

    assert (16, 50 * MEGABYTE, False) == (rule.most, rule.max_bytes, rule.required)
    assert ("jpeg", "png", "webp") == rule.formats
    assert (23_170, 178_956_970) == (rule.edge[1], rule.max_area)


def test_a_row_says_what_differs() -> None:
    """A plain model has no tier, no mask, no parameters of its own, and draws opaque png."""
    model = Model(
        name="plain",
        prices=FREE,
        output=NoTokens(),
        sizes=NoSizes(),
        default_size="",
        qualities=(),
        default_quality="",
        counts=None,
    )

    assert ((), False, {}) == (model.resolutions, model.mask, model.params)
    assert (("png",), ("opaque",)) == (model.formats, model.backgrounds)
    assert ReferenceRule() == model.references
