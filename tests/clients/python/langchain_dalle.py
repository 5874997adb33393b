"""LangChain's `DallEAPIWrapper`, which reads links and nothing else."""

from __future__ import annotations

import openai
from cases import (
    API_KEY,
    BASE_URL,
    BLOCKED_PROMPT,
    FAILED_PROMPT,
    OTHER_KEY,
    POOR_KEY,
    PROMPT,
    SLOW_PROMPT,
    WRONG_KEY,
    check_link,
    raised,
    run,
)
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper


def _wrapper(key: str = API_KEY, **options: object) -> DallEAPIWrapper:
    return DallEAPIWrapper(api_key=key, base_url=BASE_URL, **options)


def generate() -> None:
    """A link, by the model it asks for when nobody says otherwise."""
    check_link(_wrapper().run(PROMPT))


def several() -> None:
    """A link for each picture."""
    urls = _wrapper(n=2).run(PROMPT).split("\n")

    assert len(urls) == 2
    for url in urls:
        check_link(url)


def links() -> None:
    """Another model of old times, with its words for quality."""
    check_link(_wrapper(model="dall-e-3", quality="standard").run(PROMPT))


def errors() -> None:
    """The SDK's errors come through."""
    rows = (
        (openai.AuthenticationError, "invalid_api_key", WRONG_KEY, PROMPT),
        (openai.PermissionDeniedError, "permission_denied", OTHER_KEY, PROMPT),
        (openai.RateLimitError, "insufficient_quota", POOR_KEY, PROMPT),
        (openai.BadRequestError, "empty_string", API_KEY, ""),
        (openai.BadRequestError, "moderation_blocked", API_KEY, BLOCKED_PROMPT),
        (openai.InternalServerError, "upstream_failed", API_KEY, FAILED_PROMPT),
    )
    for kind, code, key, prompt in rows:
        error = raised(kind, lambda key=key, prompt=prompt: _wrapper(key).run(prompt))
        assert error.code == code, error.code


def retry() -> None:
    """It gives up some times before the picture is there, and asks again."""
    check_link(_wrapper(timeout=2.0, max_retries=5).run(SLOW_PROMPT))


run({"generate": generate, "n": several, "url": links, "errors": errors, "retry": retry})
