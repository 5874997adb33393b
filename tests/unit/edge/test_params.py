import pytest

from gateway.domain.errors import InvalidRequest
from gateway.edge.params import (
    Checker,
    Param,
    boolean,
    choice,
    dollars,
    integer,
    json_type,
    label,
    missing,
    text,
    unknown,
    wrong_type,
)

QUALITY = choice(["low", "medium", "high", "auto"])


def _told(error: InvalidRequest) -> tuple[str, str | None, str | None]:
    return error.message, error.param, error.code


@pytest.mark.parametrize(
    ("checker", "value"),
    [
        (integer(1, 10), 1),
        (integer(1, 10), 10),
        (integer(0, 3), 0),
        (boolean(), True),
        (boolean(), False),
        (QUALITY, "low"),
        (QUALITY, "auto"),
        (text(maximum_chars=5), "   "),
        (text(maximum_chars=5), "12345"),
        (text(maximum_chars=5), "🦊🦊🦊🦊🦊"),
        (label(), "u"),
        (label(), ""),
    ],
)
def test_takes(checker: Checker, value: object) -> None:
    """What fits is returned as it came."""
    taken = checker("field", value)

    assert (value, type(value)) == (taken, type(taken))


@pytest.mark.parametrize(("value", "name"), [(123, "123"), (True, "True"), ([1], "[1]")])
def test_label_takes_anything(value: object, name: str) -> None:
    """OpenAI does not check the type of `user`; here it becomes text."""
    assert name == label()("user", value)


@pytest.mark.parametrize(
    ("value", "microusd"),
    [(0.05, 50_000), ("0.05", 50_000), (2, 2_000_000), (0, 0), (1e-6, 1), (0.1, 100_000)],
)
def test_dollars_are_exact(value: object, microusd: int) -> None:
    """The amount is the one that was written, be it a number or a text."""
    assert microusd == dollars()("max_cost_usd", value)


@pytest.mark.parametrize(
    ("checker", "name", "value", "told"),
    [
        (
            *(integer(1, 10), "n", 0),
            (
                (
                    "Invalid 'n': integer below minimum value."
                    " Expected a value >= 1, but got 0 instead."
                ),
                *("n", "integer_below_min_value"),
            ),
        ),
        (
            *(integer(1, 10), "n", 11),
            (
                (
                    "Invalid 'n': integer above maximum value."
                    " Expected a value <= 10, but got 11 instead."
                ),
                *("n", "integer_above_max_value"),
            ),
        ),
        (
            *(integer(1, 10), "n", 1.5),
            (
                "Invalid type for 'n': expected an integer, but got a decimal number instead.",
                *("n", "invalid_type"),
            ),
        ),
        (
            *(integer(0, 1), "n", True),
            (
                "Invalid type for 'n': expected an integer, but got a boolean instead.",
                *("n", "invalid_type"),
            ),
        ),
        (
            *(boolean(), "stream", "yes"),
            (
                "Invalid type for 'stream': expected a boolean, but got a string instead.",
                *("stream", "invalid_type"),
            ),
        ),
        (
            *(boolean(), "stream", 1),
            (
                "Invalid type for 'stream': expected a boolean, but got an integer instead.",
                *("stream", "invalid_type"),
            ),
        ),
        (
            *(QUALITY, "quality", "hd"),
            (
                "Invalid value: 'hd'. Supported values are: 'low', 'medium', 'high', and 'auto'.",
                *("quality", "invalid_value"),
            ),
        ),
        (
            *(QUALITY, "quality", ""),
            (
                "Invalid value: ''. Supported values are: 'low', 'medium', 'high', and 'auto'.",
                *("quality", "invalid_value"),
            ),
        ),
        (
            *(QUALITY, "quality", 1),
            (
                (
                    "Invalid type for 'quality': expected one of 'low', 'medium', 'high', or"
                    " 'auto', but got an integer instead."
                ),
                *("quality", "invalid_type"),
            ),
        ),
        (
            *(choice(["auto", "low"]), "moderation", "off"),
            (
                "Invalid value: 'off'. Supported values are: 'auto' and 'low'.",
                *("moderation", "invalid_value"),
            ),
        ),
        (
            *(choice(["png", "webp", "jpeg"]), "output_format", "gif"),
            (
                "Invalid value: 'gif'. Supported values are: 'png', 'webp', and 'jpeg'.",
                *("output_format", "invalid_value"),
            ),
        ),
        (
            *(choice(["png"]), "output_format", "gif"),
            (
                "Invalid value: 'gif'. Supported values are: 'png'.",
                *("output_format", "invalid_value"),
            ),
        ),
        (
            *(dollars(), "max_cost_usd", True),
            (
                (
                    "Invalid type for 'max_cost_usd': expected an amount in dollars,"
                    " but got a boolean instead."
                ),
                *("max_cost_usd", "invalid_type"),
            ),
        ),
        (
            *(dollars(), "max_cost_usd", -1),
            (
                "Invalid 'max_cost_usd': expected an amount of zero or more dollars.",
                *("max_cost_usd", "invalid_value"),
            ),
        ),
        (
            *(dollars(), "max_cost_usd", "a lot"),
            (
                "Invalid 'max_cost_usd': expected an amount in dollars, for example 0.10.",
                *("max_cost_usd", "invalid_value"),
            ),
        ),
        (
            *(text(maximum_chars=5), "prompt", None),
            (
                "Invalid type for 'prompt': expected a string, but got null instead.",
                *("prompt", "invalid_type"),
            ),
        ),
        (
            *(text(maximum_chars=5), "prompt", ""),
            (
                (
                    "Invalid 'prompt': empty string. Expected a string with minimum length 1,"
                    " but got an empty string instead."
                ),
                *("prompt", "empty_string"),
            ),
        ),
        (
            *(text(maximum_chars=5), "prompt", "123456"),
            (
                (
                    "Invalid 'prompt': string too long. Expected a string with maximum length 5,"
                    " but got a string with length 6 instead."
                ),
                *("prompt", "string_above_max_length"),
            ),
        ),
    ],
)
def test_refuses(
    checker: Checker, name: str, value: object, told: tuple[str, str | None, str | None]
) -> None:
    """What does not fit is refused in OpenAI's words (protocols/openai_images.md §7.3)."""
    with pytest.raises(InvalidRequest) as refusal:
        checker(name, value)

    assert told == _told(refusal.value)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            missing("model"),
            ("Missing required parameter: 'model'.", "model", "missing_required_parameter"),
        ),
        (
            unknown("response_format"),
            ("Unknown parameter: 'response_format'.", "response_format", "unknown_parameter"),
        ),
        (
            wrong_type("model", "a string", []),
            (
                "Invalid type for 'model': expected a string, but got an array instead.",
                *("model", "invalid_type"),
            ),
        ),
    ],
)
def test_refusals(error: InvalidRequest, told: tuple[str, str | None, str | None]) -> None:
    """Refusals that no checker makes have OpenAI's words, too."""
    assert told == _told(error)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "a boolean"),
        (1, "an integer"),
        (1.5, "a decimal number"),
        ("1", "a string"),
        ([], "an array"),
        ({}, "an object"),
        (None, "null"),
    ],
)
def test_json_type(value: object, name: str) -> None:
    """Types have the names that OpenAI's messages give them."""
    assert name == json_type(value)


def test_null_means_left_out_unless_told() -> None:
    """Most fields may be null; prompt and model are the exceptions, and say so."""
    assert Param("n", integer(1, 10)).nullable is True


def test_a_whole_number_may_be_written_with_a_point() -> None:
    """What is used is an integer, whatever the client's language makes of numbers."""
    value = integer(1, 10)("n", 2.0)

    assert (2, int) == (value, type(value))


def test_a_label_too_deep_to_write_down_is_refused() -> None:
    """Anything names an end user, but not what Python cannot turn into a text."""
    nested: list[object] = []
    for _ in range(5_000):
        nested = [nested]
    with pytest.raises(InvalidRequest) as refusal:
        label()("user", nested)

    assert ("user", "invalid_type") == _told(refusal.value)[1:]
