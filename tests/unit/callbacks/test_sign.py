from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.background import SystemClock
from gateway.callbacks.sign import make_secret, signed_headers

OLD, NEW = make_secret(b"o" * 32), make_secret(b"n" * 32)
PAGE = Path(__file__).parents[3] / "docs/callbacks.md"
BODY = '{"id":"imgtask_1","prompt":"größer ☃"}'.encode()


def test_the_published_vector_holds() -> None:
    """protocols/openai_images.md §10, secret to signature."""
    secret = make_secret(b"0123456789abcdef0123456789abcdef")
    headers = signed_headers([secret], delivery="wh_1", at_ms=1_700_000_000_999, body=b"{}")

    assert "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" == secret
    assert {
        "webhook-id": "wh_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": "v1,LJiFYOCCmqvwqPA/12DErpJSht34gJjQQCEObEGzG2w=",
    } == headers


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_both_secrets_of_a_rotation_verify(secret: str) -> None:
    """With either secret, by the scheme's own library and by OpenAI's SDK."""
    headers = signed_headers([NEW, OLD], delivery="evt_1", at_ms=SystemClock().now_ms(), body=BODY)

    assert "imgtask_1" == Webhook(secret).verify(BODY, headers)["id"]
    OpenAI(api_key="none").webhooks.verify_signature(BODY.decode(), headers, secret=secret)


def test_another_body_id_or_secret_does_not_verify() -> None:
    """Nothing that was signed can be exchanged."""
    headers = signed_headers([NEW], delivery="evt_1", at_ms=SystemClock().now_ms(), body=BODY)

    for secret, body, given in (
        (NEW, BODY + b" ", headers),
        (NEW, BODY, headers | {"webhook-id": "evt_2"}),
        (NEW, BODY, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}),
        (OLD, BODY, headers),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, given)
        with pytest.raises(InvalidWebhookSignatureError):
            OpenAI(api_key="none").webhooks.verify_signature(body.decode(), given, secret=secret)


@pytest.mark.parametrize("count", [0, 31, 33])
def test_a_secret_is_made_of_32_bytes(count: int) -> None:
    """Fewer would be guessed, more are a mistake of the caller."""
    with pytest.raises(ValueError, match="32 random bytes"):
        make_secret(b"x" * count)


def test_the_snippet_for_receivers_works() -> None:
    """What docs/callbacks.md tells receivers to do takes a callback and refuses a forged one."""
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)  # noqa: S102 - our own documentation
    headers = signed_headers([NEW], delivery="evt_1", at_ms=SystemClock().now_ms(), body=BODY)

    assert "imgtask_1" == names["task_of"](NEW, BODY, headers)["id"]
    with pytest.raises(WebhookVerificationError):
        names["task_of"](OLD, BODY, headers)
