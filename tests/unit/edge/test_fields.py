"""Which fields there are, and what they take: strict is today's OpenAI, lenient its clients."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.domain.catalog import Model, OpenAiRules, PromptLimits
from gateway.domain.errors import InvalidRequest, UnsupportedImage
from gateway.domain.images import (
    NO_REFERENCES,
    ImageRequest,
    LinkedReference,
    Operation,
    References,
    Size,
)
from gateway.domain.sizes import RatioSizes, named_sizes
from gateway.edge.parse import FieldRules, parse_generation, read_fields
from tests.support.factories import FREE_SIZES, a_model, an_offer

MODEL = a_model()
MODELS = {MODEL.name: MODEL}
MINIMAL = {"model": MODEL.name, "prompt": "a cat"}
STRICT = FieldRules(MODELS.get, strict=True)
LENIENT = FieldRules(MODELS.get)
#: Stands for a field that is taken out of the minimal call.
ABSENT = object()


def _strict(model: Model) -> FieldRules:
    return FieldRules({model.name: model}.get, strict=True)


def _parse(rules: FieldRules = STRICT, /, **fields: object) -> ImageRequest:
    body = {name: value for name, value in (MINIMAL | fields).items() if value is not ABSENT}
    return parse_generation(json.dumps(body).encode(), rules)


def _refusal(
    rules: FieldRules = STRICT, /, **fields: object
) -> tuple[type, str, str | None, str | None]:
    with pytest.raises(InvalidRequest) as refusal:
        _parse(rules, **fields)
    error = refusal.value
    return type(error), error.message, error.param, error.code


#: A model of free sizes, as gpt-image-2 is.
FREE = a_model("gpt-image-2", offers=(an_offer(sizes=FREE_SIZES),))


def _parse_size(size: object, model: Model = FREE) -> str:
    body = {"model": model.name, "prompt": "a cat", "size": size}
    return parse_generation(json.dumps(body).encode(), _strict(model)).size


@pytest.mark.parametrize("size", ["auto", "1536x864", "1024x1024", "3840x2160", "592x1776"])
def test_free_sizes_that_are_taken(size: str) -> None:
    """Case 5: any size within the bounds is taken as it is written."""
    assert size == _parse_size(size)


def _pixels(size: str, why: str) -> tuple[str, str]:
    return size, f"Invalid size '{size}'. {why}"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        # 22
        *(
            _pixels(size, "Expected WIDTHxHEIGHT, for example '1824x1024'.")
            for size in ("bogus", "0x0", "", "1:1", "1024X1024", "1024\u00d71024", "1024x1024 ")
        ),
        *(
            _pixels(size, "Width and height must both be divisible by 16.")
            for size in ("9x9", "1025x1024", "1024x1000")
        ),
        # 23
        ("256x256", "Requested resolution is below the current minimum pixel budget."),
        *(
            _pixels(size, "Width and height must both be between 16 and 3840.")
            for size in ("4096x1024", "2048x3856")
        ),
        _pixels("3840x1024", "The longer edge must be at most 3 times the shorter one."),
        _pixels("1024x3840", "The longer edge must be at most 3 times the shorter one."),
        ("3840x3840", "Requested resolution is above the current maximum pixel budget."),
    ],
)
def test_free_sizes_that_are_refused(size: str, message: str) -> None:
    """Each bound has its text; OpenAI's where one is known (protocols/openai_images.md §7.3)."""
    with pytest.raises(UnsupportedImage) as refusal:
        _parse_size(size)

    error = refusal.value
    assert (*(message, "size"), "invalid_value") == (error.message, error.param, error.code)


def test_a_free_size_of_the_wrong_type() -> None:
    """Case 22: a number is no size."""
    with pytest.raises(InvalidRequest) as refusal:
        _parse_size(123)

    assert (
        "Invalid type for 'size': expected a string, but got an integer instead.",
        *("size", "invalid_type"),
    ) == (refusal.value.message, refusal.value.param, refusal.value.code)


@pytest.mark.parametrize("size", ["512x512", "1536x864"])
def test_sizes_of_several_offers_add_up(size: str) -> None:
    """A size that one offer lists is taken, and so is one within another's bounds."""
    model = a_model(offers=(an_offer(sizes=(Size(512, 512),)), an_offer(sizes=FREE_SIZES)))

    assert size == _parse_size(size, model)


def test_bounds_of_several_offers_add_up() -> None:
    """A size is taken when it keeps to the bounds of any offer; else the first tells why not."""
    small = replace(FREE_SIZES, step=8, min_pixels=1)
    model = a_model(offers=(an_offer(sizes=FREE_SIZES), an_offer(sizes=small)))
    with pytest.raises(UnsupportedImage, match="divisible by 16"):
        _parse_size("9x9", model)

    assert "24x24" == _parse_size("24x24", model)


class TestLenient:
    """What real clients send beside today's fields (protocols/openai_images.md §12)."""

    @pytest.mark.parametrize(
        ("fields", "taken"),
        [
            # LlamaIndex, to the letter.
            (
                {"quality": "standard", "style": "vivid", "n": 1, "size": "1024x1024"},
                {"quality": "medium", "size": "1024x1024"},
            ),
            ({"quality": "hd", "style": "natural"}, {"quality": "high"}),
            ({"style": None, "input_fidelity": None}, {}),
            # LobeChat adds it to everything.
            ({"input_fidelity": "high"}, {}),
            # The AI SDK and Open WebUI.
            ({"response_format": "b64_json"}, {}),
            ({"response_format": None}, {}),
            # EvoLink's ratios.
            ({"size": "1:1"}, {"size": "1024x1024"}),
            ({"size": "2:3"}, {"size": "1024x1536"}),
            ({"size": "3:2"}, {"size": "1536x1024"}),
        ],
    )
    def test_takes(self, fields: dict[str, object], taken: dict[str, object]) -> None:
        """It is made the same call as one of today."""
        assert _parse(**taken) == _parse(LENIENT, **fields)

    @pytest.mark.parametrize(
        ("fields", "refusal"),
        [
            (
                {"style": "bold"},
                (
                    "Invalid value: 'bold'. Supported values are: 'vivid' and 'natural'.",
                    "style",
                    "invalid_value",
                ),
            ),
            (
                {"quality": "ultra"},
                (
                    (
                        "Invalid value: 'ultra'. Supported values are: 'low', 'medium', 'high',"
                        " and 'auto'."
                    ),
                    "quality",
                    "invalid_value",
                ),
            ),
            (
                {"size": "16:9"},
                (
                    (
                        "Invalid value: '16:9'. Supported values are: '1024x1024', '1024x1536',"
                        " '1536x1024', and 'auto'."
                    ),
                    "size",
                    "invalid_value",
                ),
            ),
            (
                {"response_format": "png"},
                (
                    "Invalid value: 'png'. Supported values are: 'url' and 'b64_json'.",
                    "response_format",
                    "invalid_value",
                ),
            ),
            ({"steps": 20}, ("Unknown parameter: 'steps'.", "steps", "unknown_parameter")),
            (
                {"model": ABSENT},
                ("Missing required parameter: 'model'.", "model", "missing_required_parameter"),
            ),
            (
                {"model": None},
                (
                    "Invalid type for 'model': expected a string, but got null instead.",
                    "model",
                    "invalid_type",
                ),
            ),
        ],
    )
    def test_refuses(
        self, fields: dict[str, object], refusal: tuple[str, str | None, str | None]
    ) -> None:
        """What would be guessed at is refused in the same words as ever."""
        assert refusal == _refusal(LENIENT, **fields)[1:]

    def test_words_of_old_are_not_translated_for_a_model_that_has_them(self) -> None:
        """A model whose own quality is called standard gets just that."""
        model = a_model(offers=(an_offer(qualities=("standard", "medium")),))
        body = json.dumps(MINIMAL | {"quality": "standard"}).encode()

        assert "standard" == parse_generation(body, FieldRules({MODEL.name: model}.get)).quality

    @pytest.mark.parametrize("told", [ABSENT, None])
    def test_default_model(self, told: object) -> None:
        """It stands in for a model that is left out or null, and for none that is told."""
        rules = FieldRules(MODELS.get, default_model=MODEL.name)

        assert _parse() == _parse(rules, model=told)
        with pytest.raises(UnsupportedImage):
            _parse(rules, model="")

    def test_strict_has_no_default_model(self) -> None:
        """OpenAI has none."""
        with pytest.raises(InvalidRequest) as refusal:
            _parse(FieldRules(MODELS.get, strict=True, default_model=MODEL.name), model=ABSENT)

        assert "missing_required_parameter" == refusal.value.code

    def test_ratios_of_free_sizes(self) -> None:
        """A ratio is what EvoLink makes of it at 1K."""
        body = json.dumps({"model": FREE.name, "prompt": "x", "size": "16:9"}).encode()

        assert "1360x768" == parse_generation(body, FieldRules({FREE.name: FREE}.get)).size


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("complexity", "low"),
        ("frame_count", 4),
        ("frame_duration_ms", 200),
        ("svg", {"model": "x"}),
    ],
)
def test_fields_of_the_newest_models(field: str, value: object) -> None:
    """They are known and checked, null is omission, and nothing here makes anything of them."""
    assert _parse() == _parse(**{field: None})
    assert (
        *(UnsupportedImage, f"The model 'gpt-image-1.5' does not support the '{field}' parameter."),
        *(field, "invalid_value"),
    ) == _refusal(**{field: value})
    assert "invalid_type" == _refusal(**{field: 1.5})[3]


@pytest.mark.parametrize(
    ("takes", "fidelity", "code"),
    [
        (("low", "high"), "high", None),
        (("low",), "high", "invalid_input_fidelity_model"),
        ((), "low", "invalid_input_fidelity_model"),
        ((), None, None),
        ((), "most", "invalid_value"),
    ],
)
def test_input_fidelity_of_edits(
    takes: tuple[str, ...], fidelity: str | None, code: str | None
) -> None:
    """Case 42: strictly it is each model's own matter; leniently it has no effect."""
    model = replace(a_model(), openai=OpenAiRules(input_fidelity=takes))
    told = MINIMAL | {"input_fidelity": fidelity}
    strict = FieldRules({model.name: model}.get, strict=True)
    refused = None
    try:
        read_fields(told, strict, Operation.EDIT)
    except InvalidRequest as error:
        refused = error.code

    assert code == refused
    if fidelity != "most":
        assert _parse() == read_fields(told, LENIENT, Operation.EDIT).request


#: A model that has everything that one can have.
FULL = a_model(
    "full",
    offers=(
        replace(
            an_offer(sizes=RatioSizes(named_sizes(("1:1", "16:9"), {"1K": 2**20, "2K": 2**22}))),
            transparent=True,
            prompt=PromptLimits(chars=5, bytes=8),
        ),
    ),
)


def _of(model: Model, *, strict: bool = False, **fields: object) -> ImageRequest:
    rules = FieldRules({model.name: model}.get, strict=strict)
    body = {"model": model.name, "prompt": "cat"} | fields
    return parse_generation(json.dumps(body).encode(), rules)


def _refused(model: Model, *, strict: bool = False, **fields: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        _of(model, strict=strict, **fields)
    return refusal.value


def test_sizes_that_have_names() -> None:
    """Pixels are taken where they have a name, ratios leniently; a ratio is of the usual tier."""
    assert "2736x1536" == _of(FULL, size="2736x1536").size
    assert "1360x768" == _of(FULL, size="16:9").size
    assert (
        "Invalid value: '4:3'. Supported values are: '1024x1024', '1360x768', '2048x2048',"
        " '2736x1536', and 'auto'."
    ) == _refused(FULL, size="4:3").message
    assert "invalid_value" == _refused(FULL, size="16:9", strict=True).code


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (
            "kittens",
            (
                "Invalid 'prompt': string too long. Expected a string with maximum length 5, but"
                " got a string with length 7 instead."
            ),
        ),
        (
            "猫猫猫",
            (
                "Invalid 'prompt': string too long. Expected a string of at most 8 bytes in UTF-8,"
                " but got a string of 9 bytes instead."
            ),
        ),
    ],
)
def test_prompts_above_the_limit_of_every_offer(prompt: str, told: str) -> None:
    """Code points or bytes, whichever the offer counts."""
    error = _refused(FULL, prompt=prompt)

    assert (told, "prompt", "string_above_max_length") == (error.message, error.param, error.code)
    assert "猫猫" == _of(FULL, prompt="猫猫").prompt


def test_a_longer_prompt_for_the_more_patient_offer() -> None:
    """The limit is that of the offer that takes most; one without a limit has OpenAI's."""
    patient = an_offer(prompt_max_chars=7)
    model = a_model("full", offers=(*FULL.offers, patient))

    assert "kittens" == _of(model, prompt="kittens").prompt
    assert "string_above_max_length" == _refused(model, prompt="kittens!").code


def test_backgrounds_that_are_left_out() -> None:
    """A model that can, does; into a format without one it cannot be written."""
    assert "transparent" == _of(FULL, background="transparent", output_format="webp").background
    error = _refused(FULL, background="transparent", output_format="jpeg")

    assert (UnsupportedImage, "background", "invalid_value") == (
        *(type(error), error.param),
        error.code,
    )


def test_backgrounds_that_openai_does_not_leave_out() -> None:
    """Strictly a model takes what OpenAI takes for it, whatever its offers can."""
    model = replace(FULL, openai=OpenAiRules(transparent=False))

    assert "transparent" == _of(model, background="transparent").background
    assert (
        "Transparent background is not supported for this model."
        == _refused(model, background="transparent", strict=True).message
    )


def test_aliases() -> None:
    """Leniently a model may be called otherwise; strictly that is the name of no model."""
    rules = FieldRules({"house": FULL}.get)
    body = {"model": "house", "prompt": "cat"}

    assert "full" == read_fields(body, rules, Operation.GENERATION).request.model
    with pytest.raises(UnsupportedImage, match="The model 'house' does not exist"):
        read_fields(body, replace(rules, strict=True), Operation.GENERATION)


@pytest.mark.parametrize(
    ("strict", "told"),
    [
        (
            False,
            "The model 'full' does not exist. It has been shut down; use 'gpt-image-2' instead.",
        ),
        (True, "The model 'full' does not exist."),
    ],
)
def test_models_that_are_gone(strict: bool, told: str) -> None:
    """They are answered as OpenAI does, and leniently one hears where to go."""
    error = _refused(replace(FULL, offers=(), successor="gpt-image-2"), strict=strict, n=0)

    assert (UnsupportedImage, told, "model", "invalid_value") == (
        *(type(error), error.message),
        *(error.param, error.code),
    )


LINK = "https://files.example/a.png"

#: A model that edits with three references, and longer prompts than it takes for generations.
EDITING = a_model(
    "editing",
    offers=(
        an_offer(prompt_max_chars=5),
        an_offer(operation=Operation.EDIT, max_references=3, prompt_max_chars=9),
    ),
)


def test_references_by_their_links() -> None:
    """EvoLink's clients name them so; it is an edit then, with the limits of one."""
    asked = _of(EDITING, prompt="long prom", image_urls=[LINK, "http://h:8080/b?c=d#e"])

    assert References((LinkedReference(LINK), LinkedReference("http://h:8080/b?c=d#e"))) == (
        asked.references
    )
    assert NO_REFERENCES == _of(EDITING, image_urls=None).references
    assert "string_above_max_length" == _refused(EDITING, prompt="long prom").code


@pytest.mark.parametrize(
    ("links", "param", "code"),
    [
        ("https://x.example/a.png", "image_urls", "invalid_type"),
        ([], "image_urls", "empty_array"),
        ([LINK] * 4, "image_urls", "array_above_max_length"),
        ([LINK, None], "image_urls[1]", "invalid_type"),
        ([""], "image_urls[0]", "empty_string"),
        (["x" * 3000], "image_urls[0]", "string_above_max_length"),
        *(
            ([link], "image_urls[0]", "invalid_value")
            for link in (
                "data:image/png;base64,AAAA",
                "file:///etc/passwd",
                "ftp://x.example/a.png",
                "//x.example/a.png",
                "https://",
                "https://user:secret@x.example/a.png",
                "https://x.example/a b.png",
                "https://x.example/\n.png",
                "HTTPS://x.example/a.png",
            )
        ),
    ],
)
def test_links_that_no_upstream_is_given(links: object, param: str, code: str) -> None:
    """Only what it can fetch over http or https, and no secrets in them."""
    error = _refused(EDITING, image_urls=links)

    assert (param, code) == (error.param, error.code)


def test_references_of_a_model_that_takes_none() -> None:
    """It says so; strictly there is no such field at all."""
    assert (
        "The model 'full' does not take references here."
        == _refused(FULL, image_urls=[LINK]).message
    )
    assert "unknown_parameter" == _refused(EDITING, image_urls=[LINK], strict=True).code
