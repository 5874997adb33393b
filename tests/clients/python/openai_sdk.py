"""The stock `openai` package, any major version that there is."""

from __future__ import annotations

import base64

import openai
from cases import (
    API_KEY,
    BASE_URL,
    BLOCKED_PROMPT,
    DOWN_PROMPT,
    FAILED_PROMPT,
    HURRIED_KEY,
    MODEL,
    OLD_MODEL,
    OTHER_KEY,
    POOR_KEY,
    PROMPT,
    SLOW_PROMPT,
    WRONG_KEY,
    check_base64,
    check_link,
    raised,
    run,
)

client = openai.OpenAI(base_url=BASE_URL, api_key=API_KEY)
LOW = {"model": MODEL, "size": "1024x1024", "quality": "low"}


def generate() -> None:
    """One picture, its usage, and the request's id."""
    answer = client.images.generate(prompt=PROMPT, **LOW)
    [picture] = answer.data

    check_base64(picture.b64_json)
    assert picture.url is None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer._request_id.startswith("req_")


def several() -> None:
    """As many pictures as were asked for."""
    answer = client.images.generate(prompt=PROMPT, n=2, **LOW)

    assert len(answer.data) == 2
    for picture in answer.data:
        check_base64(picture.b64_json)


def stream() -> None:
    """Events of the SDK's own types, and the picture in the last one."""
    events = list(client.images.generate(prompt=PROMPT, stream=True, partial_images=1, **LOW))

    assert events[-1].type == "image_generation.completed"
    assert {event.type for event in events[:-1]} <= {"image_generation.partial_image"}
    check_base64(events[-1].b64_json)
    assert events[-1].usage.total_tokens > 0
    error = raised(
        openai.APIError,
        lambda: list(client.images.generate(prompt=BLOCKED_PROMPT, stream=True, **LOW)),
    )
    assert error.code == "moderation_blocked"


def edit() -> None:
    """One picture, then two: forms of one field and of a list."""
    made = client.images.generate(prompt=PROMPT, **LOW).data[0].b64_json
    file = ("fox.png", base64.b64decode(made), "image/png")
    for images in (file, [file, file]):
        answer = client.images.edit(image=images, prompt="make it blue", **LOW)
        check_base64(answer.data[0].b64_json)
        assert answer.usage.input_tokens_details.image_tokens > 0


def links() -> None:
    """A link where the old model had one."""
    answer = client.images.generate(model=OLD_MODEL, prompt=PROMPT, quality="standard")

    check_link(answer.data[0].url)


def _refused(kind: type[openai.APIStatusError], code: str, key: str = API_KEY, **fields) -> None:  # noqa: ANN003 - of the SDK
    with openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0) as asking:
        call = {"prompt": PROMPT, **LOW, **fields}
        error = raised(kind, lambda: asking.images.generate(**call))
    assert error.code == code, error.code
    assert error.request_id.startswith("req_")


def errors() -> None:
    """Each class of error, with OpenAI's code."""
    _refused(openai.AuthenticationError, "invalid_api_key", WRONG_KEY)
    _refused(openai.PermissionDeniedError, "permission_denied", OTHER_KEY)
    _refused(openai.BadRequestError, "integer_below_min_value", n=0)
    _refused(openai.BadRequestError, "unknown_parameter", extra_body={"bogus": 1})
    _refused(openai.BadRequestError, "invalid_value", model="foo")
    _refused(openai.BadRequestError, "moderation_blocked", prompt=BLOCKED_PROMPT)
    _refused(openai.RateLimitError, "insufficient_quota", POOR_KEY)
    _refused(openai.InternalServerError, "upstream_failed", prompt=FAILED_PROMPT)
    _refused(openai.InternalServerError, "upstream_unavailable", prompt=DOWN_PROMPT)
    with openai.OpenAI(base_url=BASE_URL, api_key=HURRIED_KEY, max_retries=0) as hurried:
        error = raised(
            openai.RateLimitError,
            lambda: [hurried.images.generate(prompt=PROMPT, **LOW) for _ in range(2)],
        )
    assert error.code == "rate_limit_exceeded"


def retry() -> None:
    """It gives up some times before the picture is there, and asks again."""
    patient = client.with_options(timeout=2.0, max_retries=5)

    check_base64(patient.images.generate(prompt=SLOW_PROMPT, **LOW).data[0].b64_json)


def models() -> None:
    """The list, and one of it."""
    assert MODEL in {model.id for model in client.models.list()}
    assert client.models.retrieve(MODEL).object == "model"
    error = raised(openai.NotFoundError, lambda: client.models.retrieve("foo"))
    assert error.code == "model_not_found"


run(
    {
        "generate": generate,
        "n": several,
        "stream": stream,
        "url": links,
        "edit": edit,
        "errors": errors,
        "retry": retry,
        "models": models,
    }
)
