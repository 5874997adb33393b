"""LiteLLM as a client: its own errors, made from ours."""

from __future__ import annotations

import base64
import tempfile

import litellm
from cases import (
    API_KEY,
    BASE_URL,
    BLOCKED_PROMPT,
    FAILED_PROMPT,
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


def _ask(prompt: str = PROMPT, key: str = API_KEY, model: str = MODEL, **fields: object) -> object:
    return litellm.image_generation(
        model=f"openai/{model}",
        prompt=prompt,
        size="1024x1024",
        api_base=BASE_URL,
        api_key=key,
        **{"quality": "low"} | fields,
    )


def generate() -> None:
    """One picture, and what it used."""
    answer = _ask()

    check_base64(answer.data[0].b64_json)
    assert answer.usage.total_tokens > 0


def several() -> None:
    """As many pictures as were asked for."""
    answer = _ask(n=2)

    assert len(answer.data) == 2
    for picture in answer.data:
        check_base64(picture.b64_json)


def edit() -> None:
    """A picture from a picture, through its own client for forms."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(base64.b64decode(_ask().data[0].b64_json))
        file.seek(0)
        answer = litellm.image_edit(
            model=f"openai/{MODEL}",
            image=[file],
            prompt="make it blue",
            size="1024x1024",
            quality="low",
            api_base=BASE_URL,
            api_key=API_KEY,
        )

    check_base64(answer.data[0].b64_json)


def links() -> None:
    """A link where the old model had one."""
    check_link(_ask(model=OLD_MODEL, quality="standard").data[0].url)


def errors() -> None:
    """Statuses become its own classes; of 403 it has none for pictures."""
    rows = (
        (litellm.AuthenticationError, 401, WRONG_KEY, PROMPT),
        (litellm.APIError, 403, OTHER_KEY, PROMPT),
        (litellm.RateLimitError, 429, POOR_KEY, PROMPT),
        (litellm.BadRequestError, 400, API_KEY, ""),
        (litellm.BadRequestError, 400, API_KEY, BLOCKED_PROMPT),
        (litellm.BadGatewayError, 502, API_KEY, FAILED_PROMPT),
    )
    for kind, status, key, prompt in rows:
        call = {"prompt": prompt, "key": key, "max_retries": 0}
        error = raised(kind, lambda call=call: _ask(**call))
        assert error.status_code == status, error.status_code


def retry() -> None:
    """The gateway sends it away before the picture is there, and it comes back."""
    check_base64(_ask(SLOW_PROMPT, max_retries=3).data[0].b64_json)


run(
    {
        "generate": generate,
        "n": several,
        "url": links,
        "edit": edit,
        "errors": errors,
        "retry": retry,
    }
)
