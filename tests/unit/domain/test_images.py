import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.images import (
    ImageRequest,
    Operation,
    Output,
    PictureFormat,
    Size,
    TokenUsage,
    remembered,
)

SIDES = st.integers(min_value=1, max_value=99_999)


@given(SIDES, SIDES)
def test_size_round_trip(width: int, height: int) -> None:
    """A size reads back from the text it is written as."""
    assert Size(width, height) == Size.parse(str(Size(width, height)))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024x1536", Size(width=1024, height=1536)),
        ("1x99999", Size(width=1, height=99_999)),
    ],
)
def test_size_parses_width_first(text: str, size: Size) -> None:
    """Width comes before height."""
    assert size == Size.parse(text)


def test_size_in_pixels() -> None:
    """The area counts for what a picture costs."""
    assert 8_294_400 == Size(3840, 2160).pixels


@pytest.mark.parametrize(
    "text",
    [
        *("", "auto", "bogus", "1024", "1024x", "x1024", "1024X1024", "1024*1024", "1024x1024x2"),
        *("0x0", "0x1024", "1024x0", "01024x1024", "-1x5", "100000x1", " 1024x1024", "1024x1024\n"),
        "\u0661\u0662x\u0661\u0662",
    ],
)
def test_size_refuses_anything_else(text: str) -> None:
    """What is not two plain positive numbers is refused."""
    with pytest.raises(ValueError, match="expected WIDTHxHEIGHT in pixels, for example 1024x1024"):
        Size.parse(text)


@pytest.mark.parametrize(
    ("picture_format", "media_type"),
    [
        (PictureFormat.PNG, "image/png"),
        (PictureFormat.JPEG, "image/jpeg"),
        (PictureFormat.WEBP, "image/webp"),
    ],
)
def test_media_types(picture_format: PictureFormat, media_type: str) -> None:
    """Formats know their IANA names."""
    assert media_type == picture_format.media_type


def test_usage_totals() -> None:
    """Four categories go in and two come out."""
    usage = TokenUsage(
        text_input=1,
        text_cached_input=10,
        image_input=100,
        image_cached_input=1000,
        image_output=10_000,
        text_output=100_000,
    )

    assert (usage.input_total, usage.output_total) == (1111, 110_000)


def test_usage_of_two_renders_adds_up_by_category() -> None:
    """Each category is added to its own; nothing is left out."""
    first = TokenUsage(1, 2, 3, 4, 5, 6)
    second = TokenUsage(10, 20, 30, 40, 50, 60)

    assert TokenUsage(11, 22, 33, 44, 55, 66) == first.plus(second)


def test_request_defaults_are_openais() -> None:
    """What a client leaves out is what OpenAI documents (protocols/openai_images.md §2.1)."""
    expected = ImageRequest(
        model="m",
        prompt="p",
        n=1,
        size="auto",
        quality="auto",
        background="auto",
        output_format="png",
        output_compression=100,
        moderation="auto",
        user=None,
        safety_identifier=None,
    )

    assert expected == ImageRequest(model="m", prompt="p")


@pytest.mark.parametrize(
    ("output", "made", "is_met"),
    [
        (Output(), PictureFormat.PNG, True),
        (Output(), PictureFormat.JPEG, False),
        (Output(PictureFormat.WEBP), PictureFormat.WEBP, True),
        (Output(PictureFormat.WEBP, 50), PictureFormat.WEBP, False),
        (Output(PictureFormat.JPEG, 99), PictureFormat.PNG, False),
    ],
)
def test_what_needs_no_conversion(output: Output, made: PictureFormat, is_met: bool) -> None:
    """A picture of the right format is delivered as it came, unless it is to be compressed."""
    assert is_met == output.is_met_by(made)


def test_a_picture_is_remembered_without_its_prompt() -> None:
    """With all that a flat price asks for."""
    picture = remembered(Operation.EDIT, size="1024x1536", quality="low", references=2)

    assert (Size(1024, 1536), "low", 2, "") == (
        *(picture.size, picture.quality),
        *(picture.references, picture.prompt),
    )
