"""LlamaIndex's image tool, which knows the models of old times and sends all of their fields.

It takes no address: its client reads `OPENAI_BASE_URL`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import openai
from cases import (
    API_KEY,
    BLOCKED_PROMPT,
    FAILED_PROMPT,
    OTHER_KEY,
    POOR_KEY,
    PROMPT,
    SLOW_PROMPT,
    WRONG_KEY,
    check_link,
    check_picture,
    raised,
    run,
)
from llama_index.tools.openai import OpenAIImageGenerationToolSpec


def _tool(key: str = API_KEY, folder: str = "") -> OpenAIImageGenerationToolSpec:
    return OpenAIImageGenerationToolSpec(api_key=key, cache_dir=folder or None)


def generate() -> None:
    """A file, from base64."""
    with tempfile.TemporaryDirectory() as folder:
        [path] = _tool(folder=folder).image_generation(PROMPT, download=True)
        check_picture(Path(path).read_bytes())


def several() -> None:
    """It asks for more and returns the first."""
    check_link(_tool().image_generation(PROMPT, num_images=2))


def links() -> None:
    """A link, by the model it asks for when nobody says otherwise."""
    check_link(_tool().image_generation(PROMPT))


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
        error = raised(kind, lambda key=key, prompt=prompt: _tool(key).image_generation(prompt))
        assert error.code == code, error.code


def retry() -> None:
    """It waits for ever by itself; the gateway sends it away, and it comes back."""
    check_link(_tool().image_generation(SLOW_PROMPT))


run({"generate": generate, "n": several, "url": links, "errors": errors, "retry": retry})
