"""Cases 3-5, 9, 10 and 13-28 of protocols/openai_images.md §15."""

import json
from dataclasses import replace

import pytest

from gateway.domain.catalog import Model
from gateway.domain.errors import InvalidRequest, UnsupportedImage
from gateway.domain.images import ImageRequest, Operation
from gateway.edge.params import Param, choice
from gateway.edge.parse import FieldRules, parse_generation, read_fields
from tests.support.factories import SQUARE, a_model, an_offer

MODEL = a_model()
MODELS = {MODEL.name: MODEL}
STRICT = FieldRules(MODELS.get, strict=True)
LENIENT = FieldRules(MODELS.get)
MINIMAL = {"model": MODEL.name, "prompt": "a cat"}
#: Stands for a field that is taken out of the minimal call.
ABSENT = object()


def _parse(rules: FieldRules = STRICT, /, **fields: object) -> ImageRequest:
    body = {name: value for name, value in (MINIMAL | fields).items() if value is not ABSENT}
    return parse_generation(json.dumps(body).encode(), STRICT)


def _strict(model: Model) -> FieldRules:
    return FieldRules({model.name: model}.get, strict=True)


def _refusal(fields: dict[str, object]) -> tuple[type, str, str | None, str | None]:
    with pytest.raises(InvalidRequest) as refusal:
        _parse(**fields)
    error = refusal.value
    return type(error), error.message, error.param, error.code


def test_minimal_call() -> None:
    """A model and a prompt are enough; the rest is OpenAI's defaults."""
    assert ImageRequest(model="gpt-image-1.5", prompt="a cat") == _parse()


def test_every_field() -> None:
    """Every field of the table reaches the request under its own name."""
    expected = ImageRequest(
        model="gpt-image-1.5",
        prompt="a cat",
        n=3,
        size="1536x1024",
        quality="high",
        background="opaque",
        output_format="png",
        output_compression=100,
        moderation="low",
        user="u",
        safety_identifier="s",
        stream=True,
        partial_images=2,
        max_cost_microusd=50_000,
    )

    assert expected == _parse(
        n=3,
        size="1536x1024",
        quality="high",
        background="opaque",
        output_format="png",
        output_compression=100,
        moderation="low",
        user="u",
        safety_identifier="s",
        stream=True,
        partial_images=2,
        max_cost_usd=0.05,
    )


@pytest.mark.parametrize(
    "field",
    [
        *("n", "size", "quality", "stream", "partial_images", "output_compression"),
        *("background", "output_format", "moderation", "user", "safety_identifier"),
        "max_cost_usd",
    ],
)
def test_null_is_omission(field: str) -> None:
    """Case 3: an explicit null is as good as leaving the field out."""
    assert _parse() == _parse(**{field: None})


@pytest.mark.parametrize("prompt", ["   ", "x" * 32_000])
def test_prompts_that_are_taken(prompt: str) -> None:
    """Case 4: white space is a prompt, and so are 32,000 characters."""
    assert prompt == _parse(prompt=prompt).prompt


@pytest.mark.parametrize(("user", "taken"), [("u", "u"), (123, "123")])
def test_user_is_not_type_checked(user: object, taken: str) -> None:
    """Case 9: OpenAI takes a number for `user`, too."""
    assert taken == _parse(user=user).user


def test_pretty_printed_body() -> None:
    """Case 10: node 4 sends its JSON with newlines."""
    body = json.dumps(MINIMAL, indent=2).encode()

    assert _parse() == parse_generation(body, STRICT)


#: protocols/openai_images.md §7.3 calls the two families of 400 IRE and IGUE.
IRE, IGUE = InvalidRequest, UnsupportedImage


def _type(field: str, expected: str, got: str) -> tuple[type, str, str, str]:
    message = f"Invalid type for '{field}': expected {expected}, but got {got} instead."
    return IRE, message, field, "invalid_type"


def _below(field: str, minimum: int, got: int) -> tuple[type, str, str, str]:
    message = (
        f"Invalid '{field}': integer below minimum value."
        f" Expected a value >= {minimum}, but got {got} instead."
    )
    return IRE, message, field, "integer_below_min_value"


def _above(field: str, maximum: int, got: int) -> tuple[type, str, str, str]:
    message = (
        f"Invalid '{field}': integer above maximum value."
        f" Expected a value <= {maximum}, but got {got} instead."
    )
    return IRE, message, field, "integer_above_max_value"


def _value(field: str, got: str, supported: str) -> tuple[type, str, str, str]:
    message = f"Invalid value: '{got}'. Supported values are: {supported}."
    return IRE, message, field, "invalid_value"


def _missing(field: str) -> tuple[type, str, str, str]:
    message = f"Missing required parameter: '{field}'."
    return IRE, message, field, "missing_required_parameter"


def _unknown(field: str) -> tuple[type, str, str, str]:
    return IRE, f"Unknown parameter: '{field}'.", field, "unknown_parameter"


def _no_model(name: str) -> tuple[type, str, str, str]:
    return IGUE, f"The model '{name}' does not exist.", "model", "invalid_value"


QUALITIES = "'low', 'medium', 'high', and 'auto'"
SIZES = "'1024x1024', '1024x1536', '1536x1024', and 'auto'"
EMPTY_PROMPT = (
    IRE,
    (
        "Invalid 'prompt': empty string. Expected a string with minimum length 1,"
        " but got an empty string instead."
    ),
    "prompt",
    "empty_string",
)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        # 4
        (
            {"prompt": "x" * 32_001},
            (
                IRE,
                (
                    "Invalid 'prompt': string too long. Expected a string with maximum length"
                    " 32000, but got a string with length 32001 instead."
                ),
                "prompt",
                "string_above_max_length",
            ),
        ),
        # 13
        ({"model": ABSENT}, _missing("model")),
        # 14
        ({"model": None}, _type("model", "a string", "null")),
        ({"model": 1}, _type("model", "a string", "an integer")),
        ({"model": 1.5}, _type("model", "a string", "a decimal number")),
        ({"model": True}, _type("model", "a string", "a boolean")),
        ({"model": {}}, _type("model", "a string", "an object")),
        ({"model": []}, _type("model", "a string", "an array")),
        # 15
        ({"model": "dall-e-3"}, _no_model("dall-e-3")),
        ({"model": ""}, _no_model("")),
        ({"model": "foo"}, _no_model("foo")),
        # 17
        ({"response_format": "b64_json"}, _unknown("response_format")),
        ({"response_format": "url"}, _unknown("response_format")),
        ({"response_format": None}, _unknown("response_format")),
        # 18
        ({"style": "vivid"}, _unknown("style")),
        ({"input_fidelity": "high"}, _unknown("input_fidelity")),
        ({"input_fidelity": None}, _unknown("input_fidelity")),
        ({"mask": 42}, _unknown("mask")),
        ({"images": []}, _unknown("images")),
        ({"bogus": 1}, _unknown("bogus")),
        # 19
        ({"n": 0}, _below("n", 1, 0)),
        ({"n": -1}, _below("n", 1, -1)),
        ({"n": 11}, _above("n", 10, 11)),
        ({"n": 1.5}, _type("n", "an integer", "a decimal number")),
        ({"n": "2"}, _type("n", "an integer", "a string")),
        ({"n": True}, _type("n", "an integer", "a boolean")),
        # 20
        ({"output_compression": 101}, _above("output_compression", 100, 101)),
        ({"output_compression": -1}, _below("output_compression", 0, -1)),
        ({"output_compression": "50"}, _type("output_compression", "an integer", "a string")),
        ({"partial_images": 4}, _above("partial_images", 3, 4)),
        ({"partial_images": -1}, _below("partial_images", 0, -1)),
        # 21, and the other lists of words
        ({"quality": "hd"}, _value("quality", "hd", QUALITIES)),
        ({"quality": ""}, _value("quality", "", QUALITIES)),
        (
            {"quality": 1},
            _type("quality", "one of 'low', 'medium', 'high', or 'auto'", "an integer"),
        ),
        ({"output_format": "gif"}, _value("output_format", "gif", "'png', 'webp', and 'jpeg'")),
        ({"moderation": "off"}, _value("moderation", "off", "'auto' and 'low'")),
        (
            {"background": "red"},
            _value("background", "red", "'transparent', 'opaque', and 'auto'"),
        ),
        # The fixed sizes of this family.
        ({"size": "512x512"}, _value("size", "512x512", SIZES)),
        (
            {"size": 123},
            _type("size", "one of '1024x1024', '1024x1536', '1536x1024', or 'auto'", "an integer"),
        ),
        # 24
        ({"stream": "yes"}, _type("stream", "a boolean", "a string")),
        # 25
        (
            {"output_compression": 80},
            (
                IGUE,
                "Compression less than 100 is not supported for PNG output format",
                None,
                "invalid_png_output_compression",
            ),
        ),
        (
            {"output_format": "png", "output_compression": 99},
            (
                IGUE,
                "Compression less than 100 is not supported for PNG output format",
                None,
                "invalid_png_output_compression",
            ),
        ),
        # 27
        ({"prompt": ABSENT}, _missing("prompt")),
        ({"prompt": None}, _type("prompt", "a string", "null")),
        ({"prompt": 5}, _type("prompt", "a string", "an integer")),
        ({"prompt": ""}, EMPTY_PROMPT),
    ],
)
def test_refusals(
    fields: dict[str, object], refusal: tuple[type, str, str | None, str | None]
) -> None:
    """Each fault has OpenAI's type, text, param and code (protocols/openai_images.md §7.3)."""
    assert refusal == _refusal(fields)


@pytest.mark.parametrize(
    ("fields", "reported"),
    [
        ({"model": "foo", "bogus": 1, "prompt": "", "n": 0}, "model"),
        ({"model": ABSENT, "bogus": 1}, "model"),
        ({"model": None, "bogus": 1}, "model"),
        ({"bogus": 1, "prompt": "", "n": 0}, "bogus"),
        ({"bogus": 1, "prompt": ABSENT}, "bogus"),
        ({"bogus": 1, "n": 0}, "bogus"),
        ({"prompt": "", "n": 0}, "prompt"),
        ({"prompt": ABSENT, "n": 0}, "prompt"),
        ({"n": 0, "quality": "hd", "size": "512x512"}, "n"),
        ({"quality": "hd", "output_compression": 101, "size": "512x512"}, "quality"),
        ({"output_compression": 101, "size": "512x512"}, "output_compression"),
        ({"stream": "yes", "n": 0}, "n"),
        # What cannot be served here is told only when nothing is wrong.
        ({"background": "transparent", "moderation": "off"}, "moderation"),
    ],
)
def test_order_of_validation(fields: dict[str, object], reported: str) -> None:
    """Case 26: of several faults the first in OpenAI's order is reported (§2.1)."""
    assert reported == _refusal(fields)[2]


@pytest.mark.parametrize("turn", [1, -1])
def test_the_order_of_keys_does_not_matter(turn: int) -> None:
    """Case 26: the order is that of the checks, not that of the body."""
    items = list({"n": 0, "size": "x", "model": MODEL.name, "prompt": ""}.items())
    body = json.dumps(dict(items[::turn])).encode()
    with pytest.raises(InvalidRequest) as refusal:
        parse_generation(body, STRICT)

    assert refusal.value.param == "prompt"


@pytest.mark.parametrize("body", [b"", b"{", b"{'model': 1}", b'{"prompt": "\xff"}', b"a=1"])
def test_malformed_json(body: bytes) -> None:
    """Case 28: a body that is no JSON is a plain 400 in the envelope."""
    with pytest.raises(InvalidRequest) as refusal:
        parse_generation(body, STRICT)

    error = refusal.value
    assert (
        *(error.param, error.code),
        error.message.startswith("We could not parse the JSON body of your request."),
    ) == (None, None, True)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"a cat"', b"1"])
def test_a_body_must_be_an_object(body: bytes) -> None:
    """JSON that is not an object is refused as such."""
    with pytest.raises(InvalidRequest) as refusal:
        parse_generation(body, STRICT)

    error = refusal.value
    assert (
        *(error.param, error.code),
        error.message,
    ) == (None, "invalid_type", "The JSON body of your request must be an object.")


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        (
            {"background": "transparent"},
            (
                IGUE,
                "Transparent background is not supported for this model.",
                *("background", "invalid_value"),
            ),
        ),
    ],
)
def test_what_openai_knows_and_no_offer_does(
    fields: dict[str, object], refusal: tuple[type, str, str | None, str | None]
) -> None:
    """What would be ignored is refused instead: nobody pays for another picture than asked."""
    assert refusal == _refusal(fields)


def test_lists_come_from_the_offers() -> None:
    """Sizes and qualities are those of the model's offers for generations, each named once."""
    model = a_model(
        offers=(
            an_offer(sizes=(SQUARE,), qualities=("low",)),
            an_offer(sizes=(SQUARE,), qualities=("low", "high")),
            an_offer(operation=Operation.EDIT, qualities=("max",)),
        )
    )
    with pytest.raises(InvalidRequest) as refusal:
        parse_generation(json.dumps(MINIMAL | {"quality": "max"}).encode(), _strict(model))
    with pytest.raises(InvalidRequest) as size_refusal:
        parse_generation(json.dumps(MINIMAL | {"size": "1x1"}).encode(), _strict(model))

    assert refusal.value.message == (
        "Invalid value: 'max'. Supported values are: 'low', 'high', and 'auto'."
    )
    assert size_refusal.value.message == (
        "Invalid value: '1x1'. Supported values are: '1024x1024' and 'auto'."
    )


class TestForms:
    """Fields of multipart bodies are texts (protocols/openai_images.md §3.1)."""

    model = a_model(offers=(an_offer(), an_offer(operation=Operation.EDIT)))
    lenient = FieldRules({model.name: model}.get)
    strict = replace(lenient, strict=True)

    def _read(self, rules: FieldRules = lenient, **fields: str) -> ImageRequest:
        told = {"model": MODEL.name, "prompt": "a cat"} | fields
        return read_fields(told, rules, Operation.EDIT, as_text=True).request

    def test_texts_stand_for_values(self) -> None:
        """Numbers, booleans and words come as texts."""
        expected = _parse(LENIENT, n=2, quality="low", partial_images=1, user="7", max_cost_usd=0.5)

        assert expected == self._read(
            n="2", quality="low", partial_images="1", stream="false", user="7", max_cost_usd="0.5"
        )

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            (
                *("n", "abc"),
                (
                    "Invalid type for 'n': expected an integer, but got a string value"
                    " that could not be converted into an integer."
                ),
            ),
            (
                *("n", "1.5"),
                (
                    "Invalid type for 'n': expected an integer, but got a string value"
                    " that could not be converted into an integer."
                ),
            ),
            (
                *("n", "0"),
                (
                    "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0"
                    " instead."
                ),
            ),
            ("quality", "", f"Invalid value: ''. Supported values are: {QUALITIES}."),
            (
                *("stream", "yes"),
                "Invalid type for 'stream': expected a boolean, but got a string instead.",
            ),
        ],
    )
    def test_texts_that_stand_for_nothing(self, name: str, text: str, told: str) -> None:
        """Case 38: OpenAI's words."""
        with pytest.raises(InvalidRequest) as refusal:
            self._read(**{name: text})

        assert (told, name) == (refusal.value.message, refusal.value.param)

    def test_the_word_null(self) -> None:
        """OpenAI's SDK for node has people write it; a prompt of that word is a prompt."""
        assert self._read() == self._read(user="null", n="null", quality="null")
        assert "null" == self._read(prompt="null").prompt
        with pytest.raises(InvalidRequest):
            self._read(self.strict, n="null")

    def test_a_routes_own_fields(self) -> None:
        """They are known, checked after the prompt and before the rest, and handed over apart."""
        own = (Param("images", choice(["a.png"]), nullable=False),)
        told = {"model": MODEL.name, "prompt": "a cat", "images": "a.png"}
        reading = read_fields(told, self.lenient, Operation.EDIT, own=own)
        with pytest.raises(InvalidRequest) as refusal:
            read_fields(told | {"images": "b", "n": 0}, self.lenient, Operation.EDIT, own=own)

        assert (_parse(LENIENT), self.model, {"images": "a.png"}) == (
            *(reading.request, reading.model),
            reading.own,
        )
        assert "images" == refusal.value.param
