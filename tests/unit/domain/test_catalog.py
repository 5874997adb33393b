from dataclasses import replace
from datetime import date

import pytest

from gateway.domain.catalog import Bid, Catalog, PromptLimits, unmade
from gateway.domain.images import ImageRequest, Operation, Picture, Size
from gateway.domain.pricing import configured, list_price, quote
from gateway.domain.sizes import FixedSizes, SizeFault
from tests.support.factories import (
    FREE_SIZES,
    LANDSCAPE,
    PORTRAIT,
    SQUARE,
    a_book,
    a_model,
    a_picture,
    an_offer,
    an_unpriced_book,
)


def test_offers_for_one_operation() -> None:
    """Only offers of the operation are returned, in the order of the catalogue."""
    first, second = an_offer(provider="first"), an_offer(provider="second")
    edit = an_offer(provider="third", operation=Operation.EDIT)
    model = a_model(offers=(second, edit, first))

    assert (second, first) == model.offers_for(Operation.GENERATION)
    assert (edit,) == model.offers_for(Operation.EDIT)


def test_get_by_exact_name() -> None:
    """A model is found under its name and under nothing else."""
    model = a_model()
    catalog = Catalog({model.name: model})

    assert model is catalog.get("gpt-image-1.5")
    assert catalog.get("gpt-image-1") is None


@pytest.mark.parametrize(("size", "allowed"), [(SQUARE, True), (PORTRAIT, False)])
def test_fixed_sizes(size: Size, allowed: bool) -> None:
    """A list allows what is in it."""
    assert allowed is FixedSizes((SQUARE, LANDSCAPE)).allows(size)


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        (Size(1024, 1024), None),
        # The bounds themselves are within: pixels, aspect and edges.
        (Size(1024, 640), None),
        (Size(2880, 2880), None),
        (Size(3840, 2160), None),
        (Size(3840, 1280), None),
        (Size(1280, 3840), None),
        (Size(1025, 1024), SizeFault.STEP),
        (Size(1024, 1032), SizeFault.STEP),
        (Size(9, 9), SizeFault.STEP),
        (Size(3856, 2160), SizeFault.EDGE),
        (Size(1600, 3856), SizeFault.EDGE),
        (Size(3840, 1264), SizeFault.ASPECT),
        (Size(1264, 3840), SizeFault.ASPECT),
        (Size(1024, 624), SizeFault.TOO_FEW_PIXELS),
        (Size(16, 16), SizeFault.TOO_FEW_PIXELS),
        (Size(2880, 2896), SizeFault.TOO_MANY_PIXELS),
        (Size(3840, 3840), SizeFault.TOO_MANY_PIXELS),
    ],
)
def test_free_sizes(size: Size, fault: SizeFault | None) -> None:
    """A size within every bound is allowed; else the first bound it breaks is told."""
    assert fault == FREE_SIZES.fault(size)
    assert (fault is None) is FREE_SIZES.allows(size)


def test_the_shortest_edge() -> None:
    """The shortest edge is a bound of its own."""
    rule = replace(FREE_SIZES, min_edge=32, min_pixels=1)

    assert (SizeFault.EDGE, None) == (rule.fault(Size(16, 32)), rule.fault(Size(32, 32)))


@pytest.mark.parametrize(
    ("picture", "made"),
    [
        (a_picture(), True),
        (a_picture(size=PORTRAIT), False),
        (a_picture(quality="high"), False),
        (a_picture(references=1), False),
        (a_picture(prompt="x" * 10), True),
        (a_picture(prompt="x" * 11), False),
    ],
)
def test_makes(picture: Picture, made: bool) -> None:
    """An offer makes pictures of its operation, sizes, qualities and lengths of prompt."""
    offer = an_offer(sizes=(SQUARE,), qualities=("low",), prompt_max_chars=10)

    assert made is offer.makes(picture)


@pytest.mark.parametrize(("references", "made"), [(1, True), (4, True), (5, False)])
def test_makes_from_references(references: int, made: bool) -> None:
    """An offer takes so many references and no more."""
    offer = an_offer(operation=Operation.EDIT, max_references=4)

    assert made is offer.makes(a_picture(references=references))


def test_an_offer_without_a_limit_takes_any_prompt() -> None:
    """Where no limit is known none is applied."""
    assert an_offer(prompt_max_chars=None).makes(a_picture(prompt="x" * 100_000))


REQUEST = ImageRequest(model="gpt-image-1.5", prompt="cats")


@pytest.mark.parametrize(
    ("asked", "default", "size"),
    [
        ("1536x1024", "1024x1536", LANDSCAPE),
        ("auto", "1024x1536", PORTRAIT),
        ("auto", None, SQUARE),
    ],
)
def test_picture_size(asked: str, default: str | None, size: Size) -> None:
    """What is asked for wins, then the given default, then the model's."""
    picture = a_model().picture(replace(REQUEST, size=asked), default_size=default)

    assert size == picture.size


@pytest.mark.parametrize(
    ("asked", "default", "quality"),
    [("high", "low", "high"), ("auto", "low", "low"), ("auto", None, "medium")],
)
def test_picture_quality(asked: str, default: str | None, quality: str) -> None:
    """What is asked for wins, then the given default, then the model's."""
    picture = a_model().picture(replace(REQUEST, quality=asked), default_quality=default)

    assert quality == picture.quality


@pytest.mark.parametrize(
    ("references", "operation"), [(0, Operation.GENERATION), (3, Operation.EDIT)]
)
def test_picture_operation(references: int, operation: Operation) -> None:
    """A picture made from others is an edit."""
    picture = a_model().picture(REQUEST, references=references)

    assert Picture(operation, "cats", SQUARE, "medium", references) == picture


def test_a_default_size_that_is_none() -> None:
    """A default that is no size is a mistake of whoever gave it."""
    with pytest.raises(ValueError, match="expected WIDTHxHEIGHT"):
        a_model().picture(REQUEST, default_size="bogus")


def test_bids() -> None:
    """Every offer that can make the picture is asked, in order; one may have no price."""
    picture = a_picture(prompt="cats")
    known, unknown = an_offer(), an_offer(book=an_unpriced_book())
    other = an_offer(sizes=(PORTRAIT,))

    assert a_model(offers=(unknown, other, known)).bids(picture) == (
        Bid(unknown, None, None),
        Bid(known, list_price(known.book, picture), quote(known.book, picture)),
    )


def test_the_best_offer_is_the_cheapest_that_can_do_it() -> None:
    """Of offers with a price the cheapest is taken, and the first of equals."""
    picture = a_picture()
    dear = an_offer(book=a_book(thinking_tokens=1))
    cheap, equal = an_offer(provider="cheap"), an_offer(provider="equal")
    cannot = an_offer(provider="cannot", qualities=("high",))
    unknown = an_offer(book=an_unpriced_book())
    best = a_model(offers=(unknown, cannot, dear, cheap, equal)).best(picture)

    assert best == (cheap, quote(cheap.book, picture))


@pytest.mark.parametrize("hold_microusd", [None, 0, 90_000])
def test_the_best_offer_without_a_price(hold_microusd: int | None) -> None:
    """Without a price there is no best, unless an amount is configured: then it is the first."""
    first, second = (an_offer(provider=name, book=an_unpriced_book()) for name in ("a", "b"))
    model = a_model(offers=(first, second), unpriced_hold_microusd=hold_microusd)
    expected = None if hold_microusd is None else (first, configured(hold_microusd))

    assert expected == model.best(a_picture())


def test_a_price_wins_over_the_configured_amount() -> None:
    """The configured amount is for pictures without a price only."""
    model = a_model(unpriced_hold_microusd=1)

    assert (model.offers[0], quote(a_book(), a_picture())) == model.best(a_picture())


def test_a_picture_that_nobody_makes_is_not_held_for() -> None:
    """A configured amount does not make what no offer can do."""
    model = a_model(unpriced_hold_microusd=90_000)

    assert model.best(a_picture(quality="max")) is None


def test_pictures_without_a_price() -> None:
    """The refusal names the model, the size and the quality."""
    model = a_model(offers=(an_offer(book=an_unpriced_book()),))
    error = unmade(model, a_picture(size=PORTRAIT, quality="high"))

    assert (error.message, error.param, error.code) == (
        (
            "There is no price for 'gpt-image-1.5' at size 1024x1536 and quality 'high',"
            " so it is not made here."
        ),
        None,
        "unpriced",
    )


def test_pictures_that_nobody_makes() -> None:
    """The refusal says what is asked of one offer at once."""
    error = unmade(a_model(), replace(a_picture(references=17), background="transparent"))

    assert (error.message, error.param, error.code) == (
        (
            "The model 'gpt-image-1.5' does not make such a picture here: edit at size 1024x1024,"
            " quality 'low', background 'transparent', 17 references."
        ),
        None,
        "invalid_value",
    )


@pytest.mark.parametrize(
    ("limits", "prompt", "allowed"),
    [
        (PromptLimits(), "x" * 10**6, True),
        (PromptLimits(chars=3), "äöü", True),
        (PromptLimits(chars=3), "äöüß", False),
        (PromptLimits(bytes=6), "äöü", True),
        (PromptLimits(bytes=5), "äöü", False),
    ],
)
def test_prompt_limits(limits: PromptLimits, prompt: str, *, allowed: bool) -> None:
    """Code points and bytes are counted apart; a limit nobody knows is none."""
    assert allowed is limits.allow(prompt)


@pytest.mark.parametrize("transparent", [False, True])
def test_an_offer_that_leaves_the_background_out(transparent: bool) -> None:
    """Only one that can is asked for it; every other background is anybody's."""
    offer = replace(an_offer(), transparent=transparent)

    assert transparent is offer.makes(replace(a_picture(), background="transparent"))
    assert offer.makes(replace(a_picture(), background="auto"))


SOON, LATER = date(2026, 12, 1), date(2027, 2, 1)


@pytest.mark.parametrize(
    ("retires", "ends"),
    [((None,), None), ((SOON,), SOON), ((SOON, LATER), LATER), ((SOON, None), None), ((), None)],
)
def test_a_model_ends_with_its_last_offer(
    retires: tuple[date | None, ...], ends: date | None
) -> None:
    """An end is an offer's: as long as one of them has none, the model has none."""
    model = a_model(offers=tuple(an_offer(retires=day) for day in retires))

    assert ends == model.shutdown_date


@pytest.mark.parametrize(
    ("day", "left"),
    [
        (date(2026, 11, 30), [SOON, LATER]),
        (SOON, [LATER]),
        (date(2027, 1, 31), [LATER]),
        (LATER, []),
    ],
)
def test_offers_that_have_ended_are_skipped(day: date, left: list[date]) -> None:
    """On its day an offer is gone; the others go on, and no offer at all is what is left."""
    model = a_model(offers=(an_offer(retires=SOON), an_offer(retires=LATER)))
    found = Catalog({model.name: model}, {"dall-e-3": model.name}).find("dall-e-3", day)

    assert found is not None
    assert left == [offer.retires for offer in found.offers]


def test_a_name_of_nobody_is_found_by_nobody() -> None:
    """Neither a name nor an alias."""
    assert Catalog({"gpt-image-1.5": a_model()}).find("dall-e-3", SOON) is None


@pytest.mark.parametrize(
    ("default_size", "default_quality", "made"),
    [
        ("1536x1024", "high", (LANDSCAPE, "high")),
        ("512x512", "max", (SQUARE, "medium")),
    ],
)
def test_a_teams_defaults_where_the_model_has_them(
    default_size: str, default_quality: str, made: tuple[Size, str]
) -> None:
    """A team has defaults for all models, and not every model makes them."""
    picture = a_model().picture(REQUEST, default_size=default_size, default_quality=default_quality)

    assert made == (picture.size, picture.quality)


@pytest.mark.parametrize(
    ("output_format", "compression", "asked"),
    [("webp", 100, "webp"), ("webp", 50, "png"), ("png", 100, "png")],
)
def test_what_is_compressed_is_compressed_once(
    output_format: str, compression: int, asked: str
) -> None:
    """A picture that is compressed here is asked for without loss."""
    request = replace(REQUEST, output_format=output_format, output_compression=compression)

    assert asked == a_model().picture(request).output_format
