from dataclasses import replace

import httpx
import pytest

from gateway.background import SystemClock
from gateway.domain.catalog import SizeWords, Wording
from gateway.domain.images import Operation, Picture, PictureFormat, Size
from gateway.domain.sizes import NamedSize, RatioSizes
from gateway.domain.task import SubmitOrder
from gateway.providers.evolink import EvolinkProvider, EvolinkSettings
from tests.support.factories import an_offer

SETTINGS = EvolinkSettings(
    name="evolink", base_url="https://api.evolink.ai", api_key="sk-evo-1", min_poll_interval_s=2.5
)
SIZE = Size(1024, 1536)
OFFER = an_offer(sizes=(SIZE,), qualities=("medium",))


def provider(settings: EvolinkSettings = SETTINGS) -> EvolinkProvider:
    """Return a provider that nothing is asked of over the network."""
    return EvolinkProvider(
        settings,
        submit_client=httpx.AsyncClient(),
        poll_client=httpx.AsyncClient(),
        clock=SystemClock(),
    )


def test_what_is_sent_leaves_nothing_to_upstream_defaults() -> None:
    """Model, prompt, size and quality are always explicit; `n` is never sent (§2.1, §14)."""
    order = provider().compose(OFFER, Picture(Operation.GENERATION, "a fox", SIZE, "medium"))

    assert order == SubmitOrder(
        provider="evolink",
        account="evolink:01a1e4399839",
        body={
            "model": "gpt-image-1.5",
            "prompt": "a fox",
            "size": "1024x1536",
            "quality": "medium",
        },
    )


def _told(picture: Picture, **changes: object) -> dict[str, object]:
    """Return what is told beside model and prompt."""
    offer = replace(OFFER, **changes)  # type: ignore[arg-type]
    body = provider().compose(offer, picture).body
    return {name: value for name, value in body.items() if name not in ("model", "prompt")}


WIDE = Size(1360, 768)
RATIO = RatioSizes((NamedSize("16:9", "1K", WIDE),))


@pytest.mark.parametrize(
    ("wording", "told"),
    [
        (
            Wording(SizeWords.RATIO, "quality", has_quality=False),
            {"size": "16:9", "quality": "1K"},
        ),
        (
            Wording(SizeWords.RATIO, "resolution"),
            {"size": "16:9", "resolution": "1K", "quality": "low"},
        ),
        (Wording(SizeWords.RATIO, has_quality=False), {"size": "16:9"}),
        # Pixels say it all: a tier beside them would count for nothing.
        (Wording(tier_field="quality", has_quality=False), {"size": "1360x768"}),
        (Wording(SizeWords.NONE, has_quality=False), {}),
    ],
)
def test_each_upstream_model_is_told_in_its_own_words(
    wording: Wording, told: dict[str, object]
) -> None:
    """The field that means resolution differs, and some models have no such fields (§2.7)."""
    picture = Picture(Operation.GENERATION, "a fox", WIDE, "low")

    assert told == _told(picture, sizes=RATIO, wording=wording)


PNG, JPEG, WEBP = PictureFormat.PNG, PictureFormat.JPEG, PictureFormat.WEBP


@pytest.mark.parametrize(
    ("formats", "asked", "background", "told"),
    [
        # What is made unasked is not asked for.
        ((PNG, JPEG, WEBP), "png", "auto", {}),
        ((PNG, JPEG, WEBP), "webp", "opaque", {"output_format": "webp"}),
        ((JPEG, PNG), "png", "auto", {"output_format": "png"}),
        # What is not made is converted later on.
        ((JPEG, PNG), "webp", "auto", {}),
        (
            *((JPEG, PNG), "webp", "transparent"),
            {"output_format": "png", "background": "transparent"},
        ),
        ((PNG, WEBP), "png", "transparent", {"background": "transparent"}),
    ],
)
def test_formats_that_are_asked_for(
    formats: tuple[PictureFormat, ...], asked: str, background: str, told: dict[str, object]
) -> None:
    """A format is asked for where it is made, and never one that loses the background."""
    picture = Picture(
        *(Operation.GENERATION, "a fox", SIZE, "low"), background=background, output_format=asked
    )
    wording = Wording(has_quality=False, format_field="output_format")

    assert {"size": "1024x1536", **told} == _told(picture, formats=formats, wording=wording)


def test_a_format_inside_of_an_object() -> None:
    """One model has the field among its own parameters (§2.7)."""
    picture = Picture(Operation.GENERATION, "a fox", SIZE, "low", output_format="png")
    wording = Wording(has_quality=False, format_field="model_params.output_format")

    assert {"size": "1024x1536", "model_params": {"output_format": "png"}} == _told(
        picture, formats=(JPEG, PNG), wording=wording
    )


def test_a_ratio_that_has_no_name_is_no_order() -> None:
    """It cannot be: such an offer makes no such picture."""
    picture = Picture(Operation.GENERATION, "a fox", SIZE, "low")

    with pytest.raises(ValueError, match="no name for 1024x1536"):
        _told(picture, sizes=RATIO, wording=Wording(SizeWords.RATIO))


def test_the_provider_answers_to_its_configured_name_and_pace() -> None:
    """Name and poll floor come from the settings."""
    assert (provider().name, provider().min_poll_interval_s) == ("evolink", 2.5)


def test_the_key_is_not_shown() -> None:
    """Printing the settings does not print the key, nor does the account's name."""
    assert "sk-evo-1" not in f"{SETTINGS!r} {SETTINGS.account}"


def test_another_key_is_another_account() -> None:
    """Two keys under one name can be told apart."""
    other = EvolinkSettings(name="evolink", base_url=SETTINGS.base_url, api_key="sk-evo-2")

    assert other.account != SETTINGS.account


@pytest.mark.parametrize("api_key", ["", " ", "key\n", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused(api_key: str) -> None:
    """A key that is no header value is a mistake at start-up; the message does not repeat it."""
    with pytest.raises(ValueError, match=r"^the API key must be printable ASCII and not empty$"):
        EvolinkSettings(name="evolink", base_url=SETTINGS.base_url, api_key=api_key)


@pytest.mark.parametrize(
    "base_url",
    ["", "api.evolink.ai", "ftp://host", "https://", "https://u:p@host", "https://h/?q=1", "\t"],
)
def test_a_base_url_that_cannot_be_asked_is_refused(base_url: str) -> None:
    """Only http and https URLs of a host are taken."""
    with pytest.raises(ValueError, match="base_url"):
        EvolinkSettings(name="evolink", base_url=base_url, api_key="k")
